/* Included by every file of vector code. */

#include <stdint.h>
#include <string.h>

/* The width of the processor's vectors. */
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

#define INLINE static inline __attribute__((always_inline))
