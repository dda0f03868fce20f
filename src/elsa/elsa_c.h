/* ELSA's C interface: attention on this processor, exact and over the keys that a plan selects.
 *
 * Plain C99. What the calls compute is said in elsa/cpu/attention.h and docs/guide/cpp.md; a whole
 * program is examples/c/attention.c.
 *
 * Errors. A function that can fail returns an elsa_status; elsa_last_error() then says in one line
 * where, what, expected, got. A getter returns -1 or NULL instead. A null pointer where one is
 * needed is an error of that kind, and freeing NULL does nothing. No exception leaves a function.
 * After a failure outputs are unspecified, and a KV cache is as it was before the call.
 *
 * Structs. Those that begin with struct_size may grow at their end in later versions; make them
 * with their elsa_..._init function, which sets it and the defaults. A program built with an older
 * header works with a newer library; one built with a newer header works as long as it leaves at
 * zero what the library does not know.
 *
 * Threads. Handles may be used by several threads at once, except a KV cache: its calls must not
 * overlap in time. */
#ifndef ELSA_ELSA_C_H_
#define ELSA_ELSA_C_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Rises when a program built with an older header would no longer work; the library's soname. */
#define ELSA_ABI_VERSION 1

#if defined(__GNUC__)
#define ELSA_C_API __attribute__((visibility("default")))
#else
#define ELSA_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors and versions ---- */

typedef int32_t elsa_status;
enum {
  ELSA_OK = 0,
  ELSA_INVALID_ARGUMENT = 1, /* a value, shape, option or null pointer that makes no sense */
  ELSA_INVALID_FORMAT = 2,   /* a file or text that breaks its format */
  ELSA_MISMATCH = 3,         /* two good inputs that do not belong together */
  ELSA_UNSUPPORTED = 4,      /* well-formed, but not something this library can do */
  ELSA_IO = 5,               /* the operating system refused */
  ELSA_OUT_OF_MEMORY = 6,
  ELSA_CALLBACK_FAILED = 7, /* the caller's executor did not do its work */
  ELSA_INTERNAL = 8         /* a defect of the library */
};

/* The message of the last call of this thread that failed; "" if none did. Valid until the next
 * failure on this thread. */
ELSA_C_API const char* elsa_last_error(void);
ELSA_C_API const char* elsa_status_name(elsa_status status); /* "ok" "invalid_argument" ... */

ELSA_C_API const char* elsa_version(void); /* "0.1.0" */
ELSA_C_API int32_t elsa_abi_version(void); /* the library's ELSA_ABI_VERSION */

/* ---- Targets: the instruction sets that the kernels are compiled for ---- */

ELSA_C_API int32_t elsa_target_count(void);
/* Name as options and the environment variable ELSA_TARGET take it. NULL: no such index. */
ELSA_C_API const char* elsa_target_name(int32_t index);
/* 1 if it is compiled in and this processor has it, else 0; -1: no such index. */
ELSA_C_API int32_t elsa_target_runs(int32_t index);
/* What the compiler says that it compiled the kernels for; "" if they are not in this library. */
ELSA_C_API const char* elsa_target_compiled_for(int32_t index);
/* The target in use unless a call asks for another. NULL if ELSA_TARGET names none that runs. */
ELSA_C_API const char* elsa_selected_target(void);
ELSA_C_API const char* elsa_processor_name(void); /* "unknown" where it does not say */

/* ---- Tensors: views of memory that the caller owns ---- */

typedef int32_t elsa_dtype;
enum {
  ELSA_FLOAT32 = 1,
  ELSA_FLOAT16 = 2,
  ELSA_BFLOAT16 = 3,
  ELSA_BOOL = 4 /* one byte, 0 or not: masks */
};

/* Strides count elements; 0 broadcasts. A tensor whose data is NULL is absent where it is
 * optional. */
typedef struct elsa_tensor {
  const void* data;
  elsa_dtype dtype;
  int64_t shape[4];
  int64_t stride[4];
} elsa_tensor;

typedef struct elsa_mutable_tensor {
  void* data;
  elsa_dtype dtype;
  int64_t shape[4];
  int64_t stride[4];
} elsa_mutable_tensor;

/* A packed row-major tensor. */
static inline elsa_tensor elsa_tensor_packed(const void* data, elsa_dtype dtype, int64_t a,
                                             int64_t b, int64_t c, int64_t d) {
  elsa_tensor t;
  memset(&t, 0, sizeof(t));
  t.data = data;
  t.dtype = dtype;
  t.shape[0] = a;
  t.shape[1] = b;
  t.shape[2] = c;
  t.shape[3] = d;
  t.stride[0] = b * c * d;
  t.stride[1] = c * d;
  t.stride[2] = d;
  t.stride[3] = 1;
  return t;
}

static inline elsa_mutable_tensor elsa_mutable_tensor_packed(void* data, elsa_dtype dtype,
                                                             int64_t a, int64_t b, int64_t c,
                                                             int64_t d) {
  const elsa_tensor packed = elsa_tensor_packed(data, dtype, a, b, c, d);
  elsa_mutable_tensor t;
  memset(&t, 0, sizeof(t));
  t.data = data;
  t.dtype = packed.dtype;
  memcpy(t.shape, packed.shape, sizeof(t.shape));
  memcpy(t.stride, packed.stride, sizeof(t.stride));
  return t;
}

/* ---- Plans: what calibration learned about a model ---- */

typedef struct elsa_plan elsa_plan;

ELSA_C_API elsa_status elsa_plan_read(const char* path, elsa_plan** plan);
/* From the text of a plan file; `name` (NULL: "plan") stands for the file in messages. */
ELSA_C_API elsa_status elsa_plan_parse(const char* json, size_t size, const char* name,
                                       elsa_plan** plan);
/* Caches that use the plan keep what they need. */
ELSA_C_API void elsa_plan_free(elsa_plan* plan);

ELSA_C_API const char* elsa_plan_model(const elsa_plan* plan);   /* "" if unknown */
ELSA_C_API const char* elsa_plan_profile(const elsa_plan* plan); /* "paper" "mean-row" "custom" */
ELSA_C_API int64_t elsa_plan_layers(const elsa_plan* plan);
ELSA_C_API int64_t elsa_plan_heads(const elsa_plan* plan, int64_t layer);
ELSA_C_API int64_t elsa_plan_hash_d(const elsa_plan* plan);    /* most components of a row */
ELSA_C_API int64_t elsa_plan_hash_bits(const elsa_plan* plan); /* k */
/* 1 if every query of the head keeps all its keys, without selection, else 0. */
ELSA_C_API int32_t elsa_plan_is_exact_head(const elsa_plan* plan, int64_t layer, int64_t head);

/* ---- Executors: who runs the work of a call; results never depend on it ---- */

typedef struct elsa_executor elsa_executor;

/* A pool of that many threads, the caller's one included; 0: one per hardware thread. */
ELSA_C_API elsa_status elsa_executor_create(int32_t threads, elsa_executor** executor);

typedef void (*elsa_task)(void* task_context, int64_t index);

typedef struct elsa_executor_callbacks {
  size_t struct_size;
  void* context;   /* the first argument of the functions */
  int32_t threads; /* how many items run at once, at most; 1 or more */
  /* Calls task(task_context, i) once for every i in [0, count), in any order, on any threads, and
   * returns 0 when all of them have ended; anything else fails the call of ELSA that it works for.
   * Must not throw. */
  int32_t (*run)(void* context, int64_t count, elsa_task task, void* task_context);
  void (*destroy)(void* context); /* optional: called by elsa_executor_free */
} elsa_executor_callbacks;

static inline elsa_executor_callbacks elsa_executor_callbacks_init(void) {
  elsa_executor_callbacks callbacks;
  memset(&callbacks, 0, sizeof(callbacks));
  callbacks.struct_size = sizeof(callbacks);
  return callbacks;
}

ELSA_C_API elsa_status elsa_executor_create_from(const elsa_executor_callbacks* callbacks,
                                                 elsa_executor** executor);
ELSA_C_API int32_t elsa_executor_threads(const elsa_executor* executor);
/* No call may be using it. */
ELSA_C_API void elsa_executor_free(elsa_executor* executor);

/* ---- Attention ---- */

typedef struct elsa_inputs {
  size_t struct_size;
  elsa_tensor query; /* [batch, heads, n_q, d]; d is 1 to 256 */
  elsa_tensor key;   /* [batch, kv_heads, n_k, d]; heads is a multiple of kv_heads */
  elsa_tensor value; /* [batch, kv_heads, n_k, d_v]; all three of one dtype, last stride 1 */
  elsa_tensor mask;  /* optional ELSA_BOOL [batch, heads, n_q, n_k]: not 0 = visible */
  elsa_tensor bias;  /* optional [batch, heads, n_q, n_k], added to the scores; <= -1e30 masks */
  const int64_t* query_lengths; /* optional [batch]: rows from here on are padding */
  const int64_t* key_lengths;   /* optional [batch] */
  double scale;                 /* of the scores; 0: 1/sqrt(d) */
  int32_t causal;               /* not 0: query i sees keys 0 to i + causal_offset */
  int64_t causal_offset;        /* keys that come before the first query; needs causal */
} elsa_inputs;

static inline elsa_inputs elsa_inputs_init(void) {
  elsa_inputs inputs;
  memset(&inputs, 0, sizeof(inputs));
  inputs.struct_size = sizeof(inputs);
  return inputs;
}

/* What K and V are computed with; the relative error of the output on random normal rows. Keys are
 * selected in binary32 always. */
typedef int32_t elsa_precision;
enum {
  ELSA_PRECISION_AUTO = 0,    /* float32 for float32 tensors, else 16 bits */
  ELSA_PRECISION_FLOAT32 = 1, /* 1e-6 */
  ELSA_PRECISION_16BIT = 2,   /* 4e-3 */
  ELSA_PRECISION_INT8 = 3     /* 1.5e-2: 8-bit scores */
};

typedef int32_t elsa_select;
enum {
  ELSA_SELECT_AUTO = 0,  /* by the plan, or exactly where that is as fast */
  ELSA_SELECT_ALWAYS = 1 /* by the plan, whatever it costs */
};

typedef struct elsa_attend_options {
  size_t struct_size;
  elsa_executor* executor; /* NULL: a pool of the process with `threads` threads */
  int32_t threads;         /* 0: one per hardware thread; must be 0 beside an executor */
  elsa_precision precision;
  elsa_select select;
  const char* target;              /* NULL: elsa_selected_target() */
  elsa_mutable_tensor log_sum_exp; /* optional float32 [batch, heads, n_q, 1], apart from out and
                                      the inputs: log of the sum of exp(score); -infinity where a
                                      query sees no key */
} elsa_attend_options;

static inline elsa_attend_options elsa_attend_options_init(void) {
  elsa_attend_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  return options;
}

/* What a call did. */
typedef struct elsa_report elsa_report;

/* Computes attention for every (batch, head, query). Rows of padded queries and of queries that see
 * no key are 0. `plan` NULL: exact; otherwise `layer` of it decides which keys count. `out`:
 * [batch, heads, n_q, d_v], float32 or query's dtype, apart from the inputs. `options` NULL: the
 * defaults. `report` NULL: not wanted; otherwise it is to be freed. */
ELSA_C_API elsa_status elsa_attend(const elsa_inputs* inputs, const elsa_plan* plan, int64_t layer,
                                   const elsa_mutable_tensor* out,
                                   const elsa_attend_options* options, elsa_report** report);

/* ---- Reports ---- */

/* How a head was computed, and why. */
enum {
  ELSA_PATH_EXACT = 0,           /* no plan, p = 0, or an exact head */
  ELSA_PATH_SELECTED = 1,        /* by the plan */
  ELSA_PATH_EXACT_EXPECTED = 2,  /* exactly: the plan expects too many keys to gain */
  ELSA_PATH_EXACT_OBSERVED = 3,  /* exactly: a sample of the queries keeps too many keys */
  ELSA_PATH_EXACT_TOO_SHORT = 4, /* exactly: too few keys for selection to pay */
  ELSA_PATHS = 8                 /* room for more */
};

/* Counts of one head over all batches; padding is not counted. */
typedef struct elsa_head_report {
  size_t struct_size;
  int64_t queries;
  int64_t empty_queries;             /* saw no key: output 0 */
  int64_t fallback_queries;          /* kept their best key only */
  int64_t exact_queries;             /* selection bypassed */
  int64_t pairs;                     /* (query, visible key) */
  int64_t kept;                      /* of these, computed */
  int64_t heads_by_path[ELSA_PATHS]; /* batches of the head that took each path */
} elsa_head_report;

static inline elsa_head_report elsa_head_report_init(void) {
  elsa_head_report head;
  memset(&head, 0, sizeof(head));
  head.struct_size = sizeof(head);
  return head;
}

ELSA_C_API const char* elsa_report_target(const elsa_report* report);
ELSA_C_API elsa_precision elsa_report_precision(const elsa_report* report); /* what AUTO became */
ELSA_C_API int64_t elsa_report_heads(const elsa_report* report);
/* Fills `counts`, whose struct_size is set. */
ELSA_C_API elsa_status elsa_report_head(const elsa_report* report, int64_t head,
                                        elsa_head_report* counts);
ELSA_C_API void elsa_report_free(elsa_report* report);
/* "exact" "selected" "exact_expected" ...; NULL: no such path. */
ELSA_C_API const char* elsa_path_name(int32_t path);

/* ---- KV caches: decoding, one query or a few against many keys ---- */

typedef struct elsa_kv_cache elsa_kv_cache;

typedef struct elsa_kv_cache_options {
  size_t struct_size;
  int64_t batch;
  int64_t heads; /* of the queries; a multiple of kv_heads */
  int64_t kv_heads;
  int64_t d;        /* components of queries and keys, 1 to 256 */
  int64_t d_v;      /* components of values; 0: d */
  elsa_dtype dtype; /* what keys and values are stored as */
  int64_t capacity; /* keys to make room for at once; it grows when full */
} elsa_kv_cache_options;

/* batch = heads = kv_heads = 1, d = 64, float32. */
static inline elsa_kv_cache_options elsa_kv_cache_options_init(void) {
  elsa_kv_cache_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.batch = 1;
  options.heads = 1;
  options.kv_heads = 1;
  options.d = 64;
  options.dtype = ELSA_FLOAT32;
  return options;
}

/* The cache of one layer. `plan` NULL: exact attention; otherwise `layer` of it. */
ELSA_C_API elsa_status elsa_kv_cache_create(const elsa_kv_cache_options* options,
                                            const elsa_plan* plan, int64_t layer,
                                            elsa_kv_cache** cache);
ELSA_C_API void elsa_kv_cache_free(elsa_kv_cache* cache);

ELSA_C_API int64_t elsa_kv_cache_size(const elsa_kv_cache* cache);  /* keys per sequence */
ELSA_C_API int64_t elsa_kv_cache_batch(const elsa_kv_cache* cache); /* as reorder left it */
ELSA_C_API int64_t elsa_kv_cache_bytes(const elsa_kv_cache* cache); /* memory held */

/* Adds n keys and values at the end: key [batch, kv_heads, n, d], value [batch, kv_heads, n, d_v],
 * of any floating dtype, last stride 1. */
ELSA_C_API elsa_status elsa_kv_cache_append(elsa_kv_cache* cache, const elsa_tensor* key,
                                            const elsa_tensor* value);
/* Removes the oldest `count` keys, after those that the plan always keeps at the front. */
ELSA_C_API elsa_status elsa_kv_cache_evict_front(elsa_kv_cache* cache, int64_t count);
/* Keeps the first `length` keys. */
ELSA_C_API elsa_status elsa_kv_cache_truncate(elsa_kv_cache* cache, int64_t length);
/* Sequence i becomes a copy of what sequence rows[i] was; the batch becomes `count`. */
ELSA_C_API elsa_status elsa_kv_cache_reorder(elsa_kv_cache* cache, const int64_t* rows,
                                             int64_t count);

typedef struct elsa_decode_options {
  size_t struct_size;
  double scale;        /* of the scores; 0: 1/sqrt(d) */
  int32_t causal;      /* not 0: the n_q queries are the last n_q positions of the cache */
  int32_t group_union; /* not 0: the query heads that share K and V keep what any of them keeps */
  elsa_tensor mask;    /* optional ELSA_BOOL [batch, heads, n_q, size] */
  elsa_tensor bias;    /* optional [batch, heads, n_q, size] */
  elsa_executor* executor;
  int32_t threads;
  elsa_select select;
  const char* target;
  elsa_mutable_tensor log_sum_exp;
} elsa_decode_options;

/* Causal, otherwise as elsa_attend_options_init. */
static inline elsa_decode_options elsa_decode_options_init(void) {
  elsa_decode_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.causal = 1;
  return options;
}

/* Attention of query [batch, heads, n_q, d] over the cached keys into out [batch, heads, n_q, d_v],
 * float32 or query's dtype. `options` and `report` may be NULL as in elsa_attend. */
ELSA_C_API elsa_status elsa_kv_cache_attend(elsa_kv_cache* cache, const elsa_tensor* query,
                                            const elsa_mutable_tensor* out,
                                            const elsa_decode_options* options,
                                            elsa_report** report);

#ifdef __cplusplus
}
#endif

#endif /* ELSA_ELSA_C_H_ */
