"""Reads a sketch of ours with Apache DataSketches' Python library and prints one of its own of the same items.

Arguments: kind (frequent, count_min, hll), form (long, string), our sketch in hex, then `item|count` for each item. What is
read has to agree with the counts; what is printed is the library's sketch in hex.
"""
import struct
import sys

import datasketches as ds

kind, form, ours = sys.argv[1:4]
ours = bytes.fromhex(ours)
items = {}
for row in sys.argv[4:]:
    item, count = row.rsplit("|", 1)
    items[int(item) if form == "long" else item] = int(count)

if kind == "frequent":
    if form == "long":
        read = ds.frequent_items_sketch.deserialize(ours, ds.PyLongsSerDe())
        theirs = ds.frequent_items_sketch(6)
    else:
        read = ds.frequent_strings_sketch.deserialize(ours)
        theirs = ds.frequent_strings_sketch(6)
    for item, count in items.items():
        assert read.get_lower_bound(item) <= count <= read.get_upper_bound(item), item
        assert read.get_estimate(item) > 0, item
        theirs.update(item, count)
    assert read.total_weight == sum(items.values())
    theirs = theirs.serialize(ds.PyLongsSerDe()) if form == "long" else theirs.serialize()
elif kind == "hll":
    read = ds.hll_sketch.deserialize(ours)
    assert round(read.get_estimate()) == len(items), (read.get_estimate(), len(items))
    theirs = ds.hll_sketch(12, ds.tgt_hll_type.HLL_8)
    for item in items:
        theirs.update(item)
    # The same items make the same sketch: their union has no more.
    union = ds.hll_union(12)
    union.update(read)
    union.update(theirs)
    assert round(union.get_estimate()) == len(items)
    theirs = theirs.serialize_compact()
else:
    # The library keeps counters as doubles, of the same places: one is turned into the other here.
    def doubles(data):
        head, cells = data[:16], data[16:]
        return head + b"".join(struct.pack("<d", v) for (v,) in struct.iter_unpack("<q", cells))

    def integers(data):
        head, cells = data[:16], data[16:]
        return head + b"".join(struct.pack("<q", int(v)) for (v,) in struct.iter_unpack("<d", cells))

    read = ds.count_min_sketch.deserialize(doubles(ours))
    theirs = ds.count_min_sketch(read.num_hashes, read.num_buckets, 9001)
    for item, count in items.items():
        theirs.update(item, count)
    for item in items:
        assert read.get_estimate(item) == theirs.get_estimate(item), item
    theirs = integers(theirs.serialize())

print(bytes(theirs).hex())
