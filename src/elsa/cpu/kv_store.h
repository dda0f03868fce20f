// What a cache keeps of each key, as columns of equal length: rows, hashes, norms, cut-offs. Keys
// are added at the end and leave at the front; columns do not know what is in them.
#ifndef ELSA_CPU_KV_STORE_H_
#define ELSA_CPU_KV_STORE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "elsa/cpu/buffer.h"

namespace elsa::cpu {

// A slab is one (sequence, kv head): its keys lie one after the other in every column. All slabs
// have the same number of keys.
class KvStore {
 public:
  // Columns of `key_bytes` bytes per key each. Errors: std::bad_alloc.
  KvStore(std::int64_t batch, std::int64_t kv_heads, std::vector<std::int64_t> key_bytes,
          std::int64_t capacity);

  std::int64_t batch() const { return batch_; }
  std::int64_t size() const { return size_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t bytes() const;
  // Times that all keys moved, by Reserve.
  std::int64_t moves() const { return moves_; }

  // Key 0 of a slab; size() keys follow, and at least Buffer::kPadding readable bytes.
  std::byte* At(int column, std::int64_t batch, std::int64_t kv_head) const {
    return columns_[column].data +
           ((batch * kv_heads_ + kv_head) * capacity_ + begin_) * columns_[column].key_bytes;
  }
  // Bytes from a slab to the next.
  std::int64_t SlabBytes(int column) const { return capacity_ * columns_[column].key_bytes; }

  // Makes room for `count` more keys behind the last. Changes nothing else if it throws.
  void Reserve(std::int64_t count);
  // The first `count` keys behind the last, which the caller has written, become part of it.
  void Grow(std::int64_t count) { size_ += count; }
  void Truncate(std::int64_t length) { size_ = length; }
  // Removes keys [first, first + count).
  void Erase(std::int64_t first, std::int64_t count);
  // Sequence i becomes what sequence rows[i] was. Changes nothing if it throws.
  void Reorder(std::span<const std::int64_t> rows);

 private:
  struct Column {
    std::int64_t key_bytes = 0;
    Buffer buffer;
    std::byte* data = nullptr;
  };
  std::vector<Column> Allocate(std::int64_t batch, std::int64_t capacity) const;
  void MoveInto(std::vector<Column> to, std::int64_t capacity);
  void Compact();
  // Copies all kv heads of one sequence from one set of columns to another.
  void CopySequence(std::vector<Column>& to, std::int64_t row, std::int64_t from) const;

  std::int64_t batch_;
  std::int64_t kv_heads_;
  std::int64_t capacity_ = 0;
  std::int64_t begin_ = 0;  // keys that left at the front
  std::int64_t size_ = 0;
  std::int64_t moves_ = 0;
  std::vector<Column> columns_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KV_STORE_H_
