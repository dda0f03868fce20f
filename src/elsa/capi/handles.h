// What the opaque handles of elsa_c.h hold.
#ifndef ELSA_CAPI_HANDLES_H_
#define ELSA_CAPI_HANDLES_H_

#include <memory>
#include <string>

#include "elsa/cpu/attention.h"
#include "elsa/cpu/executor.h"
#include "elsa/elsa_c.h"
#include "elsa/params/plan.h"

struct elsa_plan {
  std::shared_ptr<const elsa::Plan> plan;  // shared with the caches that follow it
};

struct elsa_executor {
  std::unique_ptr<elsa::cpu::Executor> executor;
};

struct elsa_report {
  elsa::cpu::Report report;
};

#endif  // ELSA_CAPI_HANDLES_H_
