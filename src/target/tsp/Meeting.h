// Finds, among progressions, those that meet others: sorted and swept, so that only neighbours are compared.
#pragma once

#include "target/tsp/Progression.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"

#include <vector>

namespace quadrille::tsp {

// Items with a `span`, ascending in its first value.
template <typename Item> void sortBySpan(std::vector<Item> &items) {
  llvm::sort(items, [](const Item &a, const Item &b) { return a.span.first < b.span.first; });
}

// For hulls that come in ascending order of their first values: the items whose hulls meet each.
template <typename Item> class Meeting {
public:
  explicit Meeting(const std::vector<Item> &items) : items(items) {}

  // Indices in `items`, ascending.
  llvm::ArrayRef<uint32_t> with(const Progression &hull) {
    int64_t last = hull.last();
    for (; next < items.size() && items[next].span.first <= last; ++next)
      active.push_back(next);
    // Ascending in the first value: behind `end` all begin later. What has ended will meet no later hull either.
    size_t end = begin;
    while (end < active.size() && items[active[end]].span.first <= last)
      ++end;
    size_t kept = end;
    for (size_t i = end; i-- > begin;)
      if (items[active[i]].span.last() >= hull.first)
        active[--kept] = active[i];
    begin = kept;
    if (begin > active.size() / 2 && begin > 1024) {
      active.erase(active.begin(), active.begin() + static_cast<ptrdiff_t>(begin));
      end -= begin;
      begin = 0;
    }
    return llvm::ArrayRef(active).slice(begin, end - begin);
  }

private:
  const std::vector<Item> &items;
  std::vector<uint32_t> active; // from `begin` on
  size_t begin = 0;
  uint32_t next = 0;
};

// Which items hold a value.
template <typename Item> class Holders {
public:
  explicit Holders(const std::vector<Item> &items) : items(items) {}

  template <typename Visit> void forEachAt(int64_t value, const Visit &visit) {
    if (reach.empty())
      for (const Item &item : items)
        reach.push_back(std::max(item.span.last(), reach.empty() ? item.span.last() : reach.back()));
    for (size_t i = llvm::lower_bound(reach, value) - reach.begin(); i < items.size() && items[i].span.first <= value;
         ++i)
      if (items[i].span.indexOf(value))
        visit(items[i]);
  }

private:
  const std::vector<Item> &items;
  std::vector<int64_t> reach; // the largest last value of the items up to each
};

} // namespace quadrille::tsp
