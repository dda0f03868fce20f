// ELSA's public C++ interface: parameters, plans, traces, and the reference execution.
#ifndef ELSA_ELSA_H_
#define ELSA_ELSA_H_

#include "elsa/base/error.h"
#include "elsa/base/view.h"
#include "elsa/io/plan_file.h"
#include "elsa/io/trace_file.h"
#include "elsa/params/config.h"
#include "elsa/params/plan.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/calibration.h"
#include "elsa/reference/explain.h"
#include "elsa/reference/hash.h"

#endif  // ELSA_ELSA_H_
