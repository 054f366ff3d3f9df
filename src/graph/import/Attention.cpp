// Operators of transformers.
#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

// Rotates pairs of elements by an angle that depends on the position (Su et al., arXiv:2104.09864): neighbours if
// interleaved, else the two halves. X is [batch, heads, positions, size] or [batch, positions, heads * size].
static void rotaryEmbedding(OperatorContext &c) {
  TensorRef x = c.operand(0), cosine = c.operand(1), sine = c.operand(2), positions = c.optional(3);
  c.requireFloat(x);
  c.requireSameType({x, cosine, sine});
  bool interleaved = c.flag("interleaved");
  int64_t heads = c.integer("num_heads", 0), rotated = c.integer("rotary_embedding_dim", 0);
  if (x.rank() != 4 && (x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0))
    refuse("operand of shape " + shapeText(x.shape()) + " with " + llvm::Twine(heads) + " heads");
  TensorRef apart = x.rank() == 3 ? c.reshape(x, {x.dim(0), x.dim(1), heads, x.dim(2) / heads})
                                  : c.transpose(x, {0, 2, 1, 3}); // [batch, positions, heads, size]
  int64_t size = apart.dim(3);
  rotated = rotated == 0 ? size : rotated;
  if (rotated < 0 || rotated > size || rotated % 2 != 0)
    refuse("rotary_embedding_dim is " + llvm::Twine(rotated) + " of " + llvm::Twine(size));
  auto angles = [&](TensorRef cache) {
    TensorRef each = positions ? c.gather(cache, positions, 0) : cache;
    if (each.shape() != Shape{apart.dim(0), apart.dim(1), rotated / 2})
      refuse("angles of shape " + shapeText(each.shape()) + " instead of " +
             shapeText({apart.dim(0), apart.dim(1), rotated / 2}));
    return c.reshape(each, {apart.dim(0), apart.dim(1), 1, rotated / 2});
  };
  TensorRef result =
      c.composite1("rotary_embedding", {apart, angles(cosine), angles(sine)},
                   {{"interleaved", static_cast<int64_t>(interleaved)}}, [&](llvm::ArrayRef<TensorRef> in) {
                     Shape half = apart.shape();
                     half[3] = rotated / 2;
                     int64_t step = interleaved ? 2 : 1;
                     TensorRef first = c.slice(in[0], {0, 0, 0, 0}, half, {1, 1, 1, step});
                     TensorRef second = c.slice(in[0], {0, 0, 0, interleaved ? 1 : rotated / 2}, half, {1, 1, 1, step});
                     TensorRef left = c.map("rotate", {first, second, in[1], in[2]},
                                            [](llvm::ArrayRef<Lane> v) { return v[0] * v[2] - v[1] * v[3]; });
                     TensorRef right = c.map("rotate", {first, second, in[1], in[2]},
                                             [](llvm::ArrayRef<Lane> v) { return v[0] * v[3] + v[1] * v[2]; });
                     Shape pair = half, joined = half;
                     joined[3] = rotated;
                     pair.push_back(1);
                     TensorRef turned =
                         interleaved ? c.reshape(c.concat({c.reshape(left, pair), c.reshape(right, pair)}, 4), joined)
                                     : c.concat({left, right}, 3);
                     if (rotated == size)
                       return turned;
                     Shape rest = apart.shape();
                     rest[3] = size - rotated;
                     return c.concat({turned, c.slice(in[0], {0, 0, 0, rotated}, rest)}, 3);
                   });
  c.result(x.rank() == 3 ? c.reshape(result, x.shape()) : c.transpose(result, {0, 2, 1, 3}));
}

void addAttention(OperatorTable &table) {
  table.add("RotaryEmbedding", rotaryEmbedding);
}

} // namespace quadrille::graph::importer
