// Marks a loop whose iterations touch only their own index, so that sources and destination may be the same array. The
// compiler then vectorises it without checks for overlap.
#pragma once

#if defined(__clang__)
#define QUADRILLE_VECTORIZE _Pragma("clang loop vectorize(assume_safety) interleave(enable)")
#elif defined(__GNUC__)
#define QUADRILLE_VECTORIZE _Pragma("GCC ivdep")
#else
#define QUADRILLE_VECTORIZE
#endif
