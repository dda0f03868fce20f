// The one error type of ELSA. Thrown at boundaries only (parsing, files, shapes, parameters);
// kernels work on validated views and do not throw. The library never aborts, exits or prints.
#ifndef ELSA_BASE_ERROR_H_
#define ELSA_BASE_ERROR_H_

#include <stdexcept>
#include <string>

namespace elsa {

enum class ErrorCode {
  kInvalidArgument,  // a value, shape or option that makes no sense      (Python: ValueError)
  kInvalidFormat,    // a file or text that breaks its format             (Python: ValueError)
  kMismatch,         // two good inputs that do not belong together       (Python: ValueError)
  kUnsupported,      // well-formed, but not something this build can do  (Python: RuntimeError)
  kIo,               // the operating system refused                      (Python: OSError)
};

// The code's name, for example "invalid_format". Not part of what(): tests and logs want it.
const char* ErrorCodeName(ErrorCode code) noexcept;

// what() is one line that says where, what, what was expected and what was found, for example
//   trace.safetensors: layer.0.k: rank: expected 4 [batch, heads, n, d], got 3
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace elsa

#endif  // ELSA_BASE_ERROR_H_
