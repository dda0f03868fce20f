#include "elsa/cpu/kv_store.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace elsa::cpu {
namespace {

// Slabs start at multiples of this many keys, so that every column's are aligned to 64 bytes.
constexpr std::int64_t kUnit = 64;

std::int64_t RoundUp(std::int64_t keys) { return (keys + kUnit - 1) / kUnit * kUnit; }

}  // namespace

KvStore::KvStore(std::int64_t batch, std::int64_t kv_heads, std::vector<std::int64_t> key_bytes,
                 std::int64_t capacity)
    : batch_(batch), kv_heads_(kv_heads) {
  for (std::int64_t bytes : key_bytes) columns_.push_back({bytes, {}, nullptr});
  capacity_ = RoundUp(std::max<std::int64_t>(capacity, kUnit));
  columns_ = Allocate(batch, capacity_);
}

std::vector<KvStore::Column> KvStore::Allocate(std::int64_t batch, std::int64_t capacity) const {
  std::vector<Column> columns;
  for (const Column& column : columns_) {
    const double bytes = static_cast<double>(batch) * static_cast<double>(kv_heads_) *
                         static_cast<double>(capacity) * static_cast<double>(column.key_bytes);
    if (bytes > 0x1p60) throw std::bad_alloc();  // before the product overflows
    Column fresh{column.key_bytes, {}, nullptr};
    fresh.data = fresh.buffer.Get<std::byte>(batch * kv_heads_ * capacity * column.key_bytes);
    columns.push_back(std::move(fresh));
  }
  return columns;
}

std::int64_t KvStore::bytes() const {
  std::int64_t key_bytes = 0;
  for (const Column& column : columns_) key_bytes += column.key_bytes;
  return batch_ * kv_heads_ * capacity_ * key_bytes;
}

void KvStore::MoveInto(std::vector<Column> to, std::int64_t capacity) {
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const std::int64_t bytes = columns_[c].key_bytes;
    for (std::int64_t slab = 0; slab < batch_ * kv_heads_; ++slab) {
      std::memcpy(to[c].data + slab * capacity * bytes,
                  columns_[c].data + (slab * capacity_ + begin_) * bytes, size_ * bytes);
    }
  }
  columns_ = std::move(to);
  capacity_ = capacity;
  begin_ = 0;
  ++moves_;
}

void KvStore::Compact() {
  for (Column& column : columns_) {
    for (std::int64_t slab = 0; slab < batch_ * kv_heads_; ++slab) {
      std::byte* to = column.data + slab * capacity_ * column.key_bytes;
      std::memmove(to, to + begin_ * column.key_bytes, size_ * column.key_bytes);
    }
  }
  begin_ = 0;
  ++moves_;
}

void KvStore::Reserve(std::int64_t count) {
  const std::int64_t needed = size_ + count;
  if (begin_ + needed <= capacity_) return;
  // Our choice: a third of the capacity is free after a move, so that it pays for itself.
  if (needed <= capacity_ - capacity_ / 3) return Compact();
  const std::int64_t capacity = RoundUp(needed + needed / 2);
  MoveInto(Allocate(batch_, capacity), capacity);
}

void KvStore::Erase(std::int64_t first, std::int64_t count) {
  // The few keys before `first` move over those that leave.
  for (Column& column : columns_) {
    for (std::int64_t slab = 0; slab < batch_ * kv_heads_; ++slab) {
      std::byte* at = column.data + (slab * capacity_ + begin_) * column.key_bytes;
      std::memmove(at + count * column.key_bytes, at, first * column.key_bytes);
    }
  }
  begin_ += count;
  size_ -= count;
}

void KvStore::CopySequence(std::vector<Column>& to, std::int64_t row, std::int64_t from) const {
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const std::int64_t bytes = columns_[c].key_bytes;
    for (std::int64_t g = 0; g < kv_heads_; ++g) {
      std::memcpy(to[c].data + ((row * kv_heads_ + g) * capacity_ + begin_) * bytes,
                  columns_[c].data + ((from * kv_heads_ + g) * capacity_ + begin_) * bytes,
                  size_ * bytes);
    }
  }
}

void KvStore::Reorder(std::span<const std::int64_t> rows) {
  const auto batch = static_cast<std::int64_t>(rows.size());
  bool same = batch == batch_;
  for (std::int64_t i = 0; i < batch && same; ++i) same = rows[i] == i;
  if (same) return;
  std::vector<Column> to = Allocate(batch, capacity_);
  for (std::int64_t i = 0; i < batch; ++i) CopySequence(to, i, rows[i]);
  columns_ = std::move(to);
  batch_ = batch;
}

}  // namespace elsa::cpu
