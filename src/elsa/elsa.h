// ELSA's public C++ interface: parameters, plans, traces, attention on this processor (elsa::cpu)
// and its plain reference. The C interface is elsa/elsa_c.h; docs/guide/cpp.md shows both.
#ifndef ELSA_ELSA_H_
#define ELSA_ELSA_H_

#include "elsa/base/error.h"
#include "elsa/base/view.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kv_cache.h"
#include "elsa/cpu/target.h"
#include "elsa/cpu/tensor.h"
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
