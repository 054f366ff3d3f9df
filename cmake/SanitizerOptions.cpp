// Part of every program of a sanitizer build.

// LLVM's bump allocators poison what they have not handed out. Debian's libraries are not instrumented and never
// unpoison what they take from an allocator whose slab our code has made, so that would be found where nothing is
// wrong.
extern "C" const char *__asan_default_options() {
  return "allow_user_poisoning=0";
}
