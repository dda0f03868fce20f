/* Compiled as C99 with -pedantic-errors and -Werror: the header is C, and its calls work from C. */
#include "elsa/elsa_c.h"

const char* elsa_c99_check(void);

/* What went wrong, or "". The mean of two values, since both keys are alike. */
const char* elsa_c99_check(void) {
  const float query[2] = {1, 2};
  const float key[4] = {3, 4, 3, 4};
  const float value[4] = {1, 10, 3, 20};
  float out[2] = {0, 0};
  elsa_inputs inputs = elsa_inputs_init();
  elsa_attend_options options = elsa_attend_options_init();
  elsa_mutable_tensor to = elsa_mutable_tensor_packed(out, ELSA_FLOAT32, 1, 1, 1, 2);
  elsa_head_report head = elsa_head_report_init();
  elsa_report* report = NULL;

  if (elsa_abi_version() != ELSA_ABI_VERSION) return "the library's ABI version";
  if (elsa_attend(NULL, NULL, 0, NULL, NULL, NULL) != ELSA_INVALID_ARGUMENT) return "null inputs";
  inputs.query = elsa_tensor_packed(query, ELSA_FLOAT32, 1, 1, 1, 2);
  inputs.key = elsa_tensor_packed(key, ELSA_FLOAT32, 1, 1, 2, 2);
  inputs.value = elsa_tensor_packed(value, ELSA_FLOAT32, 1, 1, 2, 2);
  options.threads = 1;
  if (elsa_attend(&inputs, NULL, 0, &to, &options, &report) != ELSA_OK) return elsa_last_error();
  if (out[0] < 1.9999F || out[0] > 2.0001F || out[1] < 14.999F || out[1] > 15.001F) return "out";
  if (elsa_report_head(report, 0, &head) != ELSA_OK) return elsa_last_error();
  elsa_report_free(report);
  if (head.pairs != 2 || head.kept != 2) return "counts";
  return "";
}
