// CUDA's words for a C++ compiler: a block's threads are fibers of one system thread, run one after the
// other from barrier to barrier in a chosen order. What a GPU would leave undefined is found here: a
// barrier that not all threads reach, a write beyond shared memory, an order of threads that matters.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#define EMULATED 1
#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define DEVICE inline
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define KERNEL(name) extern "C" void CAT(name, SUFFIX)
#define SHARED(type, name, count)                       \
  static char name##_site;                              \
  type* name = reinterpret_cast<type*>(emu::shared(&name##_site, #name, sizeof(type) * (count)))

struct Index3 {
  unsigned x, y, z;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {

// ---- going from one stack to another ----

#ifdef __x86_64__
// By hand: swapcontext asks the kernel for the signal mask at every switch, which takes most of the time.
struct Context {
  void* stack_pointer;
};
extern "C" void emu_switch(void** from, void* to);
asm(R"(
.text
.local emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch, .-emu_switch
)");
static void go(Context& from, Context& to) { emu_switch(&from.stack_pointer, to.stack_pointer); }
static void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  uintptr_t top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15);
  void** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;                          // where the entry would return to: it never does
  *--sp = reinterpret_cast<void*>(entry);   // where the first switch returns to
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  context.stack_pointer = sp;
}
#else
struct Context {
  ucontext_t context;
};
static void go(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
static void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = stack;
  context.context.uc_stack.ss_size = bytes;
  context.context.uc_link = nullptr;
  makecontext(&context.context, entry, 0);
}
#endif

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fiber {
  Context context;
  std::vector<char> stack;
  Index3 index;
  State state;
  uint64_t exchange;  // what this lane offers to its warp
  uint32_t operands[6];  // the same, for a product of matrices
};

struct SharedArray {
  const void* site;
  const char* name;
  size_t offset, bytes;
};

static constexpr size_t STACK = 64 << 10, ARENA = 256 << 10, GUARD = 64;
static constexpr unsigned char POISON = 0xff;  // NaN in every float type

static std::vector<Fiber> fibers;
static Context scheduler;
static int current;
static void (*body)(void*);
static void* body_arguments;
alignas(64) static unsigned char arena[ARENA];
static std::vector<SharedArray> arrays;
static size_t arena_used, dynamic_bytes;
static std::string problem;

static void fail(const std::string& what) {
  if (problem.empty()) problem = what;
}

// One array per place in the source and block, as in CUDA; poisoned when the block starts.
static void* shared(const void* site, const char* name, size_t bytes) {
  for (auto& array : arrays)
    if (array.site == site) return arena + array.offset;
  size_t offset = (arena_used + 63) / 64 * 64;
  if (offset + bytes + GUARD > ARENA) {
    fprintf(stderr, "emulator: shared memory is used up at %s\n", name);
    abort();
  }
  arrays.push_back({site, name, offset, bytes});
  arena_used = offset + bytes + GUARD;
  return arena + offset;
}

static void yield(State state) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  go(fiber.context, scheduler);
}

static void entry() {
  body(body_arguments);
  yield(State::done);
  abort();  // a thread that is done is not resumed
}

// Lets those go on who wait at `barrier` in [first, last), if all of them who live do.
static bool release(State barrier, size_t first, size_t last) {
  size_t waiting = 0, done = 0;
  for (size_t i = first; i < last; i++) {
    waiting += fibers[i].state == barrier;
    done += fibers[i].state == State::done;
  }
  if (waiting == 0 || waiting + done < last - first) return false;
  if (done > 0)
    fail(barrier == State::at_block_barrier ? "a barrier of the block was not reached by all threads"
                                            : "a warp's exchange was not reached by all lanes");
  for (size_t i = first; i < last; i++)
    if (fibers[i].state == barrier) fibers[i].state = State::ready;
  return true;
}

static void run_block(unsigned order, uint64_t block_number) {
  size_t count = fibers.size();
  arrays.clear();
  arena_used = dynamic_bytes ? (dynamic_bytes + GUARD + 63) / 64 * 64 : 0;
  memset(arena, POISON, ARENA);
  for (size_t i = 0; i < count; i++) {
    Fiber& fiber = fibers[i];
    fiber.state = State::ready;
    fiber.stack.resize(STACK);
    prepare(fiber.context, fiber.stack.data(), STACK, entry);
  }
  for (bool alive = true; alive;) {
    alive = false;
    for (size_t k = 0; k < count; k++) {
      // order 0: as counted; 1: from the last; 2: a stride that is prime to every power of two
      size_t i = order == 0 ? k : order == 1 ? count - 1 - k : (k * 37 + block_number) % count;
      if (fibers[i].state != State::ready) continue;
      current = static_cast<int>(i);
      threadIdx = fibers[i].index;
      go(scheduler, fibers[i].context);
    }
    for (size_t first = 0; first < count; first += 32)
      release(State::at_warp_barrier, first, first + 32 < count ? first + 32 : count);
    release(State::at_block_barrier, 0, count);
    bool any_ready = false, any_alive = false;
    for (auto& fiber : fibers) {
      any_ready |= fiber.state == State::ready;
      any_alive |= fiber.state != State::done;
    }
    if (any_alive && !any_ready) {
      fail("threads wait for each other at different barriers");
      return;
    }
    alive = any_alive;
  }
  auto guard = [](size_t end, const char* name) {
    for (size_t i = 0; i < GUARD; i++)
      if (arena[end + i] != POISON) {
        fail(std::string("a write beyond the shared array ") + name);
        return;
      }
  };
  if (dynamic_bytes) guard(dynamic_bytes, "given at launch");
  for (auto& array : arrays) guard(array.offset + array.bytes, array.name);
}

template <typename V>
static V exchange(V v, int from) {
  static_assert(sizeof(V) <= 8, "8 bytes at most");
  Fiber& own = fibers[current];
  own.exchange = 0;
  memcpy(&own.exchange, &v, sizeof v);
  yield(State::at_warp_barrier);
  int warp = current / 32 * 32, lane = warp + from;
  V out = v;
  if (from >= 0 && from < 32 && lane < static_cast<int>(fibers.size()))
    memcpy(&out, &fibers[lane].exchange, sizeof out);
  yield(State::at_warp_barrier);
  return out;
}

// One of two bf16 values: the upper half of a float.
static float half_of(uint32_t two, int which) {
  uint32_t bits = which ? two & 0xffff0000u : two << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

// mma.m16n8k16 of bf16: sums += left * right, where lane (g, t) = (lane / 4, lane % 4) has of sums rows g and
// g + 8, columns 2 t and 2 t + 1; of left the same of both halves of 8 columns; of right column g, rows 2 t,
// 2 t + 1 and the same plus 8.
static void multiply(float* sums, const uint32_t* left, const uint32_t* right) {
  Fiber& own = fibers[current];
  memcpy(own.operands, left, 16);
  memcpy(own.operands + 4, right, 8);
  yield(State::at_warp_barrier);
  const Fiber* warp = &fibers[current / 32 * 32];
  int g = current % 32 / 4, t = current % 4;
  for (int i = 0; i < 4; i++) {
    int column = 2 * t + i % 2;
    for (int k = 0; k < 16; k++) {
      uint32_t a = warp[g * 4 + k % 8 / 2].operands[i / 2 + k / 8 * 2];
      uint32_t b = warp[column * 4 + k % 8 / 2].operands[4 + k / 8];
      sums[i] += half_of(a, k % 2) * half_of(b, k % 2);
    }
  }
  yield(State::at_warp_barrier);
}

// ldmatrix.x4 of 16-bit values: lane 8 m + r names row r of matrix m, 16 bytes of shared memory.
static void load_matrices(uint32_t* to, const void* row, bool transposed) {
  uintptr_t at = reinterpret_cast<uintptr_t>(row), start = reinterpret_cast<uintptr_t>(arena);
  if (at % 16 != 0) fail("a row of a matrix that does not start at 16 bytes");
  if (at < start || at + 16 > start + ARENA) {
    fail("a row of a matrix outside shared memory");
    at = start;
  }
  fibers[current].exchange = at;
  yield(State::at_warp_barrier);
  const Fiber* warp = &fibers[current / 32 * 32];
  int g = current % 32 / 4, t = current % 4;
  for (int m = 0; m < 4; m++) {
    auto value = [&](int r, int column) {
      return static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(warp[m * 8 + r].exchange)[column]);
    };
    to[m] = transposed ? value(2 * t, g) | value(2 * t + 1, g) << 16 : value(g, 2 * t) | value(g, 2 * t + 1) << 16;
  }
  yield(State::at_warp_barrier);
}

template <typename... A>
struct Call {
  void (*kernel)(A...);
  void** arguments;
  template <size_t... I>
  void run(std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
  }
  static void start(void* self) {
    static_cast<Call*>(self)->run(std::index_sequence_for<A...>());
  }
};

// Runs a kernel over its grid. Returns null, or what is wrong with the launch or was found.
template <typename... A>
static const char* launch(void (*kernel)(A...), void** arguments, const size_t* sizes, size_t given,
                          const unsigned* shape, size_t shared_bytes, unsigned order) {
  static std::string answer;
  constexpr size_t expected = sizeof...(A);
  if (given != expected) {
    answer = "the kernel takes " + std::to_string(expected) + " arguments, " + std::to_string(given) + " were given";
    return answer.c_str();
  }
  const size_t takes[] = {sizeof(A)..., 0};
  for (size_t i = 0; i < expected; i++)
    if (takes[i] != sizes[i]) {
      answer = "argument " + std::to_string(i) + " has " + std::to_string(sizes[i]) + " bytes, the kernel takes " +
               std::to_string(takes[i]);
      return answer.c_str();
    }
  gridDim = {shape[0], shape[1], shape[2]};
  blockDim = {shape[3], shape[4], shape[5]};
  dynamic_bytes = shared_bytes;
  problem.clear();
  Call<A...> call{kernel, arguments};
  body = Call<A...>::start;
  body_arguments = &call;
  fibers.resize(static_cast<size_t>(blockDim.x) * blockDim.y * blockDim.z);
  for (size_t i = 0; i < fibers.size(); i++)
    fibers[i].index = {static_cast<unsigned>(i % blockDim.x), static_cast<unsigned>(i / blockDim.x % blockDim.y),
                       static_cast<unsigned>(i / blockDim.x / blockDim.y)};
  uint64_t number = 0;
  for (unsigned z = 0; z < gridDim.z; z++)
    for (unsigned y = 0; y < gridDim.y; y++)
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        run_block(order, number++);
        if (!problem.empty()) {
          answer = problem + ", in block (" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
          return answer.c_str();
        }
      }
  return nullptr;
}

}  // namespace emu

#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emu::arena)

static inline void __syncthreads() { emu::yield(emu::State::at_block_barrier); }
static inline void __syncwarp(unsigned = 0xffffffffu) { emu::yield(emu::State::at_warp_barrier); }

template <typename V>
static inline V __shfl_xor_sync(unsigned, V v, int mask) {
  return emu::exchange(v, (emu::current % 32) ^ mask);
}
template <typename V>
static inline V __shfl_sync(unsigned, V v, int lane) {
  return emu::exchange(v, lane);
}
template <typename V>
static inline V __shfl_down_sync(unsigned, V v, int by) {
  return emu::exchange(v, emu::current % 32 + by);
}
template <typename V>
static inline V __shfl_up_sync(unsigned, V v, int by) {
  return emu::exchange(v, emu::current % 32 - by);
}

static inline uint32_t __float_as_uint(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  return bits;
}
static inline float __uint_as_float(uint32_t bits) {
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
static inline long long __double_as_longlong(double v) {
  long long bits;
  memcpy(&bits, &v, 8);
  return bits;
}
// Never contracted with a sum.
static inline double __dmul_rn(double a, double b) {
  volatile double product = a * b;
  return product;
}
static inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
static inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
