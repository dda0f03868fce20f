// Where exceptions end: every function of the C interface that can fail runs inside Guard, which
// turns what is thrown into a status and the thread's last error.
#ifndef ELSA_CAPI_GUARD_H_
#define ELSA_CAPI_GUARD_H_

#include <stdexcept>
#include <string>
#include <utility>

#include "elsa/elsa_c.h"

namespace elsa::capi {

// The caller's executor did not do its work: ELSA_CALLBACK_FAILED.
class CallbackError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The status of the exception that is being handled; its message becomes the last error.
elsa_status StatusOfException() noexcept;
const char* LastError() noexcept;

template <typename Body>
elsa_status Guard(Body&& body) noexcept {
  try {
    std::forward<Body>(body)();
    return ELSA_OK;
  } catch (...) {
    return StatusOfException();
  }
}

// The value of `body`, or `failed` if it throws.
template <typename Value, typename Body>
Value GuardValue(Value failed, Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    StatusOfException();
    return failed;
  }
}

// Errors: kInvalidArgument naming the argument unless `pointer` points somewhere.
void RequirePointer(const char* name, const void* pointer);

}  // namespace elsa::capi

#endif  // ELSA_CAPI_GUARD_H_
