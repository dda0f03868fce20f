#include "elsa/capi/guard.h"

#include <new>

#include "elsa/base/error.h"

namespace elsa::capi {
namespace {

constexpr char kOutOfMemory[] = "memory: expected enough for this call, got none left";

thread_local std::string last_message;
thread_local const char* last_error = "";

void Remember(const char* message) noexcept {
  try {
    last_message = message;
    last_error = last_message.c_str();
  } catch (...) {
    last_error = kOutOfMemory;
  }
}

elsa_status StatusOf(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return ELSA_INVALID_ARGUMENT;
    case ErrorCode::kInvalidFormat:
      return ELSA_INVALID_FORMAT;
    case ErrorCode::kMismatch:
      return ELSA_MISMATCH;
    case ErrorCode::kUnsupported:
      return ELSA_UNSUPPORTED;
    case ErrorCode::kIo:
      return ELSA_IO;
  }
  return ELSA_INTERNAL;
}

}  // namespace

elsa_status StatusOfException() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    Remember(error.what());
    return StatusOf(error.code());
  } catch (const CallbackError& error) {
    Remember(error.what());
    return ELSA_CALLBACK_FAILED;
  } catch (const std::bad_alloc&) {
    last_error = kOutOfMemory;
    return ELSA_OUT_OF_MEMORY;
  } catch (const std::length_error&) {  // a container asked for more than an address can name
    last_error = kOutOfMemory;
    return ELSA_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    Remember(error.what());
    return ELSA_INTERNAL;
  } catch (...) {
    Remember("internal: expected an error of ELSA, got an unknown exception");
    return ELSA_INTERNAL;
  }
}

const char* LastError() noexcept { return last_error; }

void RequirePointer(const char* name, const void* pointer) {
  if (pointer != nullptr) return;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(name) + ": expected an address, got a null pointer");
}

}  // namespace elsa::capi

extern "C" {

const char* elsa_last_error(void) { return elsa::capi::LastError(); }

const char* elsa_status_name(elsa_status status) {
  switch (status) {
    case ELSA_OK:
      return "ok";
    case ELSA_INVALID_ARGUMENT:
      return elsa::ErrorCodeName(elsa::ErrorCode::kInvalidArgument);
    case ELSA_INVALID_FORMAT:
      return elsa::ErrorCodeName(elsa::ErrorCode::kInvalidFormat);
    case ELSA_MISMATCH:
      return elsa::ErrorCodeName(elsa::ErrorCode::kMismatch);
    case ELSA_UNSUPPORTED:
      return elsa::ErrorCodeName(elsa::ErrorCode::kUnsupported);
    case ELSA_IO:
      return elsa::ErrorCodeName(elsa::ErrorCode::kIo);
    case ELSA_OUT_OF_MEMORY:
      return "out_of_memory";
    case ELSA_CALLBACK_FAILED:
      return "callback_failed";
    case ELSA_INTERNAL:
      return "internal";
    default:
      return "unknown";
  }
}

}  // extern "C"
