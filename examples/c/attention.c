/* Attention from C: exact, or over the keys that a plan selects.
 *
 * Build against an installed ELSA (cmake --install build/release --prefix DIR):
 *   export PKG_CONFIG_PATH=DIR/lib/pkgconfig
 *   cc -std=c99 examples/c/attention.c $(pkg-config --cflags --libs elsa) -lm -o attention
 *   LD_LIBRARY_PATH=DIR/lib ./attention [PLAN]
 * or with CMake as in examples/cpp/CMakeLists.txt. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "elsa/elsa_c.h"

enum { kBatch = 1, kHeads = 2, kKeys = 64, kD = 32, kSize = kBatch * kHeads * kKeys * kD };

static int Fail(const char* what, elsa_status status) {
  fprintf(stderr, "%s: %s: %s\n", what, elsa_status_name(status), elsa_last_error());
  return 1;
}

/* Rows that repeat every 8, so that a query's largest scores are known. */
static void Fill(float* rows, float height) {
  int i;
  for (i = 0; i < kSize; ++i) {
    const int row = i / kD;
    rows[i] = i % kD % 8 == row % 8 ? height : 0;
  }
}

int main(int argc, char** argv) {
  float* query = malloc(kSize * sizeof(float));
  float* key = malloc(kSize * sizeof(float));
  float* value = malloc(kSize * sizeof(float));
  float* out = malloc(kSize * sizeof(float));
  elsa_inputs inputs = elsa_inputs_init();
  elsa_attend_options options = elsa_attend_options_init();
  elsa_mutable_tensor to =
      elsa_mutable_tensor_packed(out, ELSA_FLOAT32, kBatch, kHeads, kKeys, kD);
  elsa_plan* plan = NULL;
  elsa_report* report = NULL;
  elsa_status status;
  int64_t head;
  int result = 0;

  if (query == NULL || key == NULL || value == NULL || out == NULL) return 1;
  Fill(query, 2);
  Fill(key, 2);
  Fill(value, 1);
  inputs.query = elsa_tensor_packed(query, ELSA_FLOAT32, kBatch, kHeads, kKeys, kD);
  inputs.key = elsa_tensor_packed(key, ELSA_FLOAT32, kBatch, kHeads, kKeys, kD);
  inputs.value = elsa_tensor_packed(value, ELSA_FLOAT32, kBatch, kHeads, kKeys, kD);
  options.threads = 2; /* the result is the same for any number */

  printf("ELSA %s on %s: %s\n", elsa_version(), elsa_processor_name(), elsa_selected_target());
  if (argc > 1) {
    status = elsa_plan_read(argv[1], &plan);
    if (status != ELSA_OK) return Fail(argv[1], status);
  }
  status = elsa_attend(&inputs, plan, 0, &to, &options, &report);
  if (status == ELSA_OK) {
    for (head = 0; head < elsa_report_heads(report); ++head) {
      elsa_head_report counts = elsa_head_report_init();
      if (elsa_report_head(report, head, &counts) != ELSA_OK) break;
      printf("head %d: %ld of %ld keys\n", (int)head, (long)counts.kept, (long)counts.pairs);
    }
    /* Of 64 keys, 8 are like the query: each has e^s times the weight of another, where
     * s = 4 products of 2 * 2, over sqrt(32). */
    {
      const double large = exp(4 * 4 / sqrt(32));
      printf("out[0] = %.6f, expected %.6f\n", out[0], large / (large + 7));
      if (plan == NULL && fabs(out[0] - large / (large + 7)) > 1e-5) result = 1;
    }
  } else {
    result = Fail("elsa_attend", status);
  }
  elsa_report_free(report);
  elsa_plan_free(plan);
  free(out);
  free(value);
  free(key);
  free(query);
  return result;
}
