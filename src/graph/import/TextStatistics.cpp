// TfIdfVectorizer over integers: how often each n-gram of a pool occurs in a row.
#include "graph/import/OperatorContext.h"

#include <algorithm>

namespace quadrille::graph::importer {

// n-grams of one length: their items, and the columns of the result that count them.
namespace {
struct Grams {
  int64_t length = 0, count = 0;
  std::vector<int64_t> items; // [count, length]
};
} // namespace

// [batch, count]: occurrences in the rows of x with items `distance` apart, added to `before` where that is given.
static TensorRef occurrences(OperatorContext &c, TensorRef x, const Grams &grams, int64_t distance, TensorRef before) {
  int64_t positions = x.dim(1) - (grams.length - 1) * distance;
  if (positions < 1)
    return before ? before : c.fill(ElementType::f32, {x.dim(0), grams.count}, 0);
  TensorRef pool = c.reshape(c.integers(grams.items), {grams.count, grams.length});
  Nest nest;
  nest.operation = "count_ngrams";
  nest.loops = {{x.dim(0), false}, {grams.count, false}, {positions, true}};
  for (int64_t item = 0; item < grams.length; ++item) {
    // A slice as long as the loop: a dimension that a loop reads alone gives the loop its extent.
    nest.reads.push_back({c.slice(x, {0, item * distance}, {x.dim(0), positions}), {at(0), at(2)}});
    nest.reads.push_back({pool, {at(1), fixed(item)}});
  }
  nest.write = identityAccess(2);
  nest.combiner = Combiner::Sum;
  nest.initial = before;
  return c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
    Lane equal = v[0].to(ElementType::i64) == v[1];
    for (int64_t item = 1; item < grams.length; ++item)
      equal = equal & (v[2 * item].to(ElementType::i64) == v[2 * item + 1]);
    return equal.to(ElementType::f32);
  });
}

static void tfIdfVectorizer(OperatorContext &c) {
  TensorRef x = c.operand(0);
  if (c.has("pool_strings"))
    refuseUnsupported("a pool of strings");
  if (x.type() != ElementType::i32 && x.type() != ElementType::i64)
    refuse("elements of type " + nameOf(x.type()) + " instead of i32 or i64");
  std::string mode = c.text("mode");
  int64_t shortest = c.integer("min_gram_length"), longest = c.integer("max_gram_length"),
          skips = c.integer("max_skip_count");
  std::vector<int64_t> starts = c.integerList("ngram_counts"), columns = c.integerList("ngram_indexes"),
                       pool = c.integerList("pool_int64s");
  std::vector<double> weights = c.realList("weights");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF")
    refuse("mode is '" + mode + "' instead of TF, IDF or TFIDF");
  if (x.rank() > 2 || shortest < 1 || longest < shortest || longest > 1024 || skips < 0 || skips > 1 << 16 ||
      columns.empty())
    refuse("rows of shape " + shapeText(x.shape()) + ", n-grams of " + llvm::Twine(shortest) + " to " +
           llvm::Twine(longest) + " items, " + llvm::Twine(skips) + " skipped");
  int64_t width = *std::max_element(columns.begin(), columns.end()) + 1;
  if (*std::min_element(columns.begin(), columns.end()) < 0 || width > 1 << 24 ||
      (!weights.empty() && weights.size() != columns.size()))
    refuse("ngram_indexes or weights do not fit each other");
  Shape shape = x.rank() == 2 ? Shape{x.dim(0), width} : Shape{width};
  x = c.reshape(x, {x.rank() == 2 ? x.dim(0) : 1, x.rank() == 2 ? x.dim(1) : x.elements()});

  // Counts of all n-grams side by side; `column` says which result column each belongs to.
  std::vector<TensorRef> counts;
  std::vector<int64_t> column;
  size_t gram = 0; // number within the pool
  for (size_t n = 0; n < starts.size(); ++n) {
    int64_t length = static_cast<int64_t>(n) + 1, begin = starts[n],
            end = n + 1 < starts.size() ? starts[n + 1] : static_cast<int64_t>(pool.size());
    if (begin < 0 || end < begin || end > static_cast<int64_t>(pool.size()) || (end - begin) % length != 0)
      refuse("ngram_counts " + shapeText(starts) + " do not divide a pool of " + llvm::Twine(pool.size()) + " items");
    Grams grams = {length, (end - begin) / length, {pool.begin() + begin, pool.begin() + end}};
    if (gram + static_cast<size_t>(grams.count) > columns.size())
      refuse("ngram_indexes has " + llvm::Twine(columns.size()) + " elements, fewer than n-grams");
    if (grams.count > 0 && length >= shortest && length <= longest) {
      TensorRef sum;
      for (int64_t distance = 1; distance <= (length == 1 ? 1 : skips + 1); ++distance) {
        if (sum && (length - 1) * distance >= x.dim(1))
          break;
        sum = occurrences(c, x, grams, distance, sum);
      }
      counts.push_back(sum);
      column.insert(column.end(), columns.begin() + gram, columns.begin() + gram + grams.count);
    }
    gram += static_cast<size_t>(grams.count);
  }
  // A last column of zeros for result columns without n-gram.
  counts.push_back(c.fill(ElementType::f32, {x.dim(0), 1}, 0));
  std::vector<int64_t> source(static_cast<size_t>(width), static_cast<int64_t>(column.size()));
  for (size_t i = 0; i < column.size(); ++i) {
    if (source[column[i]] != static_cast<int64_t>(column.size()))
      refuseUnsupported("two n-grams counted in column " + llvm::Twine(column[i]));
    source[column[i]] = static_cast<int64_t>(i);
  }
  TensorRef frequency = c.gather(c.concat(counts, 1), c.integers(source), 1);
  if (mode != "TF") {
    // Weights are numbered as the result's columns.
    std::vector<float> factors(static_cast<size_t>(width), 1);
    for (size_t i = 0; i < factors.size() && i < weights.size(); ++i)
      factors[i] = static_cast<float>(weights[i]);
    TensorRef factor = c.constant(Tensor::of<float>(ElementType::f32, {width}, factors));
    frequency = c.map("weigh_ngrams", {frequency, factor}, [&](llvm::ArrayRef<Lane> v) {
      return mode == "TFIDF" ? v[0] * v[1] : select(v[0] > 0.0, v[1], v[1].constant(0));
    });
  }
  c.result(c.reshape(frequency, shape));
}

void addTextStatistics(OperatorTable &table) {
  table.add("TfIdfVectorizer", tfIdfVectorizer);
}

} // namespace quadrille::graph::importer
