// The part of a convolution block that is bound by memory, in one pass: maximum over 2x2, ReLU where asked for, and for a
// first layer the convolution itself. Images lie channels last: [N, H, W, C], C a multiple of LANES. `chosen`
// [N, H/2, W/2, C] keeps which of the four pixels was the largest, row by row, or NONE where ReLU made a zero of it. Ties
// go to the first and NaN wins over every number, as in torch. No result depends on the number of threads.
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 16;
constexpr int MOST_TAPS = 32;
constexpr std::uint8_t NONE = 4;
typedef float Floats __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(LANES * sizeof(std::int32_t)), aligned(4), may_alias));
typedef std::uint32_t Words __attribute__((vector_size(LANES * sizeof(std::uint32_t)), aligned(4), may_alias));
typedef std::uint16_t Halves __attribute__((vector_size(LANES * sizeof(std::uint16_t)), aligned(2), may_alias));
typedef std::int16_t Shorts __attribute__((vector_size(LANES * sizeof(std::int16_t)), aligned(2), may_alias));
typedef std::uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

struct Bfloat16 {
    std::uint16_t bits;
};

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }

inline Floats load(const Bfloat16* from) {
    const Words wide = __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16;
    return (Floats)wide;
}

// Rounds to the nearest, ties to even; a NaN stays one.
inline void store(Bfloat16* to, Floats values) {
    const Words bits = (Words)values;
    Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    Words nan = (bits >> 16) | 0x40;
    Words kept = values != values ? nan : rounded;
    *reinterpret_cast<Halves*>(to) = __builtin_convertvector(kept, Halves);
}

inline Ints widen(const std::uint8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Ints);
}

// The largest of four values and which it was; the first of equal ones.
inline Floats largest(const Floats values[4], Ints& which) {
    Floats best = values[0];
    which = Ints{};
    for (int place = 1; place < 4; place++) {
        Ints better = (values[place] > best) | (values[place] != values[place]);
        best = better ? values[place] : best;
        which = better ? Ints{} + place : which;
    }
    return best;
}

// Takes the largest of four values, rectifies it, and writes it with its choice down.
template <bool RELU, typename Number>
inline void choose(const Floats values[4], Number* pooled, std::uint8_t* chosen) {
    Ints which;
    Floats best = largest(values, which);
    if (RELU) {
        const Ints gone = best <= 0.0f;
        which = gone ? Ints{} + NONE : which;
        best = gone ? Floats{} : best;
    }
    store(pooled, best);
    *reinterpret_cast<Bytes*>(chosen) = __builtin_convertvector(which, Bytes);
}

template <bool RELU, typename Number>
void pool(const Number* images, Number* pooled, std::uint8_t* chosen, std::int64_t count, std::int64_t height,
          std::int64_t width, std::int64_t channels) {
    const std::int64_t rows = height / 2, columns = width / 2;
#pragma omp parallel for schedule(static)
    for (std::int64_t line = 0; line < count * rows; line++) {
        const Number* upper = images + (line / rows * height + line % rows * 2) * width * channels;
        const Number* lower = upper + width * channels;
        for (std::int64_t column = 0; column < columns; column++) {
            const std::int64_t from = column * 2 * channels, to = (line * columns + column) * channels;
            for (std::int64_t channel = 0; channel < channels; channel += LANES) {
                const Number *left = upper + from + channel, *below = lower + from + channel;
                const Floats values[4] = {load(left), load(left + channels), load(below), load(below + channels)};
                choose<RELU>(values, pooled + to + channel, chosen + to + channel);
            }
        }
    }
}

// Every value of `images`' gradient is written: a row or column that no pooling sees becomes zero.
template <typename Number>
void unpool(const Number* gradient, const std::uint8_t* chosen, Number* images, std::int64_t count, std::int64_t height,
            std::int64_t width, std::int64_t channels) {
    const std::int64_t rows = height / 2, columns = width / 2, line_size = width * channels;
#pragma omp parallel for schedule(static)
    for (std::int64_t image = 0; image < count; image++) {
        Number* start = images + image * height * line_size;
        for (std::int64_t row = 0; row < rows; row++) {
            Number *upper = start + row * 2 * line_size, *lower = upper + line_size;
            for (std::int64_t column = 0; column < columns; column++) {
                const std::int64_t to = column * 2 * channels;
                const std::int64_t from = ((image * rows + row) * columns + column) * channels;
                for (std::int64_t channel = 0; channel < channels; channel += LANES) {
                    const Floats value = load(gradient + from + channel);
                    const Ints which = widen(chosen + from + channel);
                    Number *left = upper + to + channel, *below = lower + to + channel;
                    store(left, which == 0 ? value : Floats{});
                    store(left + channels, which == 1 ? value : Floats{});
                    store(below, which == 2 ? value : Floats{});
                    store(below + channels, which == 3 ? value : Floats{});
                }
            }
            if (width % 2) {
                std::memset(upper + columns * 2 * channels, 0, channels * sizeof(Number));
                std::memset(lower + columns * 2 * channels, 0, channels * sizeof(Number));
            }
        }
        if (height % 2) std::memset(start + rows * 2 * line_size, 0, line_size * sizeof(Number));
    }
}

// What a first layer's image is made of: `kernel` x `kernel` x `inputs` taps around each pixel, zeros beyond the edges.
struct Shape {
    std::int64_t count, height, width, inputs, channels, kernel, left, top, rows, columns;

    std::int64_t taps() const { return kernel * kernel * inputs; }
    std::int64_t padded_width() const { return columns * 2 + kernel - 1; }
    std::int64_t padded_height() const { return rows * 2 + kernel - 1; }
    std::int64_t padded_size() const { return padded_height() * padded_width() * inputs; }
};

// Copies one image between its edges; pixels that no pooled value sees are left out.
void pad(const Shape& shape, const float* image, float* padded) {
    std::memset(padded, 0, shape.padded_size() * sizeof(float));
    for (std::int64_t row = 0; row < shape.height && row + shape.top < shape.padded_height(); row++) {
        const std::int64_t room = shape.padded_width() - shape.left;
        const std::int64_t width = shape.width < room ? shape.width : room;
        std::memcpy(padded + ((row + shape.top) * shape.padded_width() + shape.left) * shape.inputs,
                    image + row * shape.width * shape.inputs, width * shape.inputs * sizeof(float));
    }
}

// Where in a padded image the first tap of each of the four pixels lies, from that of the first pixel.
void offsets(const Shape& shape, std::int64_t pixels[4], std::vector<std::int64_t>& taps) {
    const std::int64_t line = shape.padded_width() * shape.inputs;
    for (int place = 0; place < 4; place++) pixels[place] = place / 2 * line + place % 2 * shape.inputs;
    for (std::int64_t row = 0; row < shape.kernel; row++)
        for (std::int64_t step = 0; step < shape.kernel * shape.inputs; step++) taps.push_back(row * line + step);
}

template <bool RELU, int TAPS, typename Number>
void first(const Shape& shape, const float* images, const float* weights, const float* bias, Number* pooled,
           std::uint8_t* chosen) {
    std::int64_t pixels[4];
    std::vector<std::int64_t> taps;
    offsets(shape, pixels, taps);
    const std::int64_t count = TAPS ? TAPS : shape.taps();  // known to the compiler, sums stay in registers
#pragma omp parallel
    {
        std::vector<float> padded(shape.padded_size());
#pragma omp for schedule(static)
        for (std::int64_t image = 0; image < shape.count; image++) {
            pad(shape, images + image * shape.height * shape.width * shape.inputs, padded.data());
            for (std::int64_t place = 0; place < shape.rows * shape.columns; place++) {
                const std::int64_t row = place / shape.columns * 2, column = place % shape.columns * 2;
                const float* corner = padded.data() + (row * shape.padded_width() + column) * shape.inputs;
                const std::int64_t to = (image * shape.rows * shape.columns + place) * shape.channels;
                for (std::int64_t channel = 0; channel < shape.channels; channel += LANES) {
                    Floats sums[4] = {};
                    for (std::int64_t tap = 0; tap < count; tap++) {
                        const Floats weight = load(weights + tap * shape.channels + channel);
                        for (int pixel = 0; pixel < 4; pixel++) sums[pixel] += corner[pixels[pixel] + taps[tap]] * weight;
                    }
                    for (Floats& sum : sums) sum += load(bias + channel);
                    choose<RELU>(sums, pooled + to + channel, chosen + to + channel);
                }
            }
        }
    }
}

// Each image has sums of its own, [N, taps + 1, channels], the last row the bias': they do not depend on the threads.
template <int TAPS, typename Number>
void first_backward(const Shape& shape, const float* images, const Number* gradient, const std::uint8_t* chosen,
                    float* sums) {
    std::int64_t pixels[4];
    std::vector<std::int64_t> taps;
    offsets(shape, pixels, taps);
    const std::int64_t count = TAPS ? TAPS : shape.taps();  // known to the compiler, sums stay in registers
#pragma omp parallel
    {
        std::vector<float> padded(shape.padded_size());
        Floats own[MOST_TAPS + 1];
#pragma omp for schedule(static)
        for (std::int64_t image = 0; image < shape.count; image++) {
            pad(shape, images + image * shape.height * shape.width * shape.inputs, padded.data());
            for (std::int64_t channel = 0; channel < shape.channels; channel += LANES) {
                for (std::int64_t tap = 0; tap <= count; tap++) own[tap] = Floats{};
                for (std::int64_t place = 0; place < shape.rows * shape.columns; place++) {
                    const std::int64_t row = place / shape.columns * 2, column = place % shape.columns * 2;
                    const float* corner = padded.data() + (row * shape.padded_width() + column) * shape.inputs;
                    const std::int64_t from = (image * shape.rows * shape.columns + place) * shape.channels + channel;
                    const Floats value = load(gradient + from);
                    const Ints which = widen(chosen + from);
                    for (int pixel = 0; pixel < 4; pixel++) {
                        const Floats part = which == pixel ? value : Floats{};
                        for (std::int64_t tap = 0; tap < count; tap++) own[tap] += corner[pixels[pixel] + taps[tap]] * part;
                        own[count] += part;
                    }
                }
                for (std::int64_t tap = 0; tap <= count; tap++)
                    store(sums + (image * (count + 1) + tap) * shape.channels + channel, own[tap]);
            }
        }
    }
}

// Zeroes the values whose 16 random bits are below `dropped` and scales the others: a dropout, and its backward part.
template <typename Number>
void drop(const Number* values, const std::int16_t* bits, Number* kept, std::int64_t count, std::int64_t dropped) {
    const Shorts least = Shorts{} + static_cast<std::int16_t>(dropped - 32768);
    const Floats scale = Floats{} + 65536.0f / static_cast<float>(65536 - dropped);
#pragma omp parallel for schedule(static)
    for (std::int64_t place = 0; place < count / LANES; place++) {
        const Shorts own = *reinterpret_cast<const Shorts*>(bits + place * LANES);
        const Ints keep = __builtin_convertvector(own >= least, Ints);
        const Floats value = load(values + place * LANES);
        store(kept + place * LANES, keep ? value * scale : Floats{});
    }
}

}  // namespace

// One pair of doors for each type of number; `relu` is 0 or 1.
#define DOORS(NAME, NUMBER)                                                                                            \
    void pool_##NAME(const NUMBER* images, NUMBER* pooled, std::uint8_t* chosen, std::int64_t count,                   \
                     std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t relu) {              \
        (relu ? pool<true, NUMBER> : pool<false, NUMBER>)(images, pooled, chosen, count, height, width, channels);     \
    }                                                                                                                  \
    void unpool_##NAME(const NUMBER* gradient, const std::uint8_t* chosen, NUMBER* images, std::int64_t count,         \
                       std::int64_t height, std::int64_t width, std::int64_t channels) {                               \
        unpool(gradient, chosen, images, count, height, width, channels);                                              \
    }                                                                                                                  \
    void first_##NAME(const Shape* shape, const float* images, const float* weights, const float* bias,                \
                      NUMBER* pooled, std::uint8_t* chosen, std::int64_t relu) {                                       \
        const auto run = shape->taps() == 4   ? (relu ? first<true, 4, NUMBER> : first<false, 4, NUMBER>)              \
                         : shape->taps() == 9 ? (relu ? first<true, 9, NUMBER> : first<false, 9, NUMBER>)              \
                                              : (relu ? first<true, 0, NUMBER> : first<false, 0, NUMBER>);             \
        run(*shape, images, weights, bias, pooled, chosen);                                                            \
    }                                                                                                                  \
    void first_backward_##NAME(const Shape* shape, const float* images, const NUMBER* gradient,                        \
                               const std::uint8_t* chosen, float* sums) {                                              \
        const auto run = shape->taps() == 4   ? first_backward<4, NUMBER>                                              \
                         : shape->taps() == 9 ? first_backward<9, NUMBER>                                              \
                                              : first_backward<0, NUMBER>;                                             \
        run(*shape, images, gradient, chosen, sums);                                                                   \
    }                                                                                                                  \
    void drop_##NAME(const NUMBER* values, const std::int16_t* bits, NUMBER* kept, std::int64_t count,                 \
                     std::int64_t dropped) {                                                                           \
        drop(values, bits, kept, count, dropped);                                                                      \
    }

extern "C" {
DOORS(float, float)
DOORS(bfloat16, Bfloat16)
}
