#include "timeline/Write.h"

#include "timeline/Trace.pb.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cassert>
#include <cmath>

namespace quadrille::timeline {

namespace {

// Packets of one sequence, appended to a Trace message one by one, so that no more than one is ever held in memory.
class PacketWriter {
public:
  PacketWriter(const Timeline &timeline, llvm::raw_ostream &os) : timeline(timeline), os(os) {}

  void write();

private:
  // Time runs from 0 within the trace.
  uint64_t nanoseconds(Cycles cycles) const {
    double rate = timeline.clockHertz > 0 ? 1e9 / timeline.clockHertz : 1;
    return static_cast<uint64_t>(std::llround(static_cast<double>(cycles.value) * rate));
  }

  // A track below `parent`; siblings stand in the order in which they are written.
  uint64_t describeTrack(const std::string &name, uint64_t parent, const Counter *counter = nullptr) {
    trace::TracePacket packet;
    trace::TrackDescriptor &track = *packet.mutable_track_descriptor();
    track.set_uuid(nextUuid);
    track.set_name(name);
    if (parent)
      track.set_parent_uuid(parent);
    track.set_child_ordering(trace::TrackDescriptor::EXPLICIT);
    track.set_sibling_order_rank(static_cast<int32_t>(nextUuid));
    if (counter) {
      bool bytes = counter->unit == "bytes";
      track.mutable_counter()->set_unit(bytes ? trace::CounterDescriptor::UNIT_SIZE_BYTES
                                              : trace::CounterDescriptor::UNIT_UNSPECIFIED);
      if (!bytes && !counter->unit.empty())
        track.mutable_counter()->set_unit_name(counter->unit);
    }
    put(packet);
    return nextUuid++;
  }

  void begin(const Span &span, uint64_t track);
  void end(Cycles at, uint64_t track);
  void writeSpans();
  void put(trace::TracePacket &packet);

  const Timeline &timeline;
  llvm::raw_ostream &os;
  uint64_t nextUuid = 1;       // 0 is Perfetto's global track
  std::vector<uint64_t> uuids; // of the timeline's tracks
  uint64_t root = 0;
  std::string buffer;
};

void PacketWriter::put(trace::TracePacket &packet) {
  packet.set_trusted_packet_sequence_id(1);
  packet.SerializeToString(&buffer);
  // Field 1 of Trace, length-delimited.
  os << '\x0a';
  uint64_t size = buffer.size();
  for (; size >= 0x80; size >>= 7)
    os << static_cast<char>(0x80 | (size & 0x7f));
  os << static_cast<char>(size) << buffer;
}

void annotate(trace::TrackEvent &event, const char *name, const std::string &value) {
  trace::DebugAnnotation &annotation = *event.add_debug_annotations();
  annotation.set_name(name);
  annotation.set_string_value(value);
}

void annotate(trace::TrackEvent &event, const char *name, int64_t value) {
  trace::DebugAnnotation &annotation = *event.add_debug_annotations();
  annotation.set_name(name);
  annotation.set_int_value(value);
}

void annotate(trace::TrackEvent &event, const char *name, double value) {
  trace::DebugAnnotation &annotation = *event.add_debug_annotations();
  annotation.set_name(name);
  annotation.set_double_value(value);
}

void PacketWriter::begin(const Span &span, uint64_t track) {
  trace::TracePacket packet;
  packet.set_timestamp(nanoseconds(span.begin));
  trace::TrackEvent &event = *packet.mutable_track_event();
  event.set_type(trace::TrackEvent::TYPE_SLICE_BEGIN);
  event.set_track_uuid(track);
  event.add_categories(nameOf(span.category));
  const KernelRecord *kernel = span.kernel == noKernel ? nullptr : &timeline.kernels[span.kernel];
  event.set_name(!span.name.empty() ? span.name : kernel ? kernel->name : nameOf(span.category));
  annotate(event, "begin_cycle", span.begin.value);
  annotate(event, "cycles", (span.end - span.begin).value);
  if (span.interval > 1)
    annotate(event, "interval", span.interval);
  if (kernel) {
    annotate(event, "kernel", kernel->name);
    annotate(event, "kind", kernel->kind);
    annotate(event, "onnx_nodes", llvm::join(kernel->nodes, ", "));
    annotate(event, "kernel_flops", kernel->flops);
    annotate(event, "kernel_bytes", kernel->bytes);
    if (!kernel->placement.empty())
      annotate(event, "placement", kernel->placement);
  }
  put(packet);
}

void PacketWriter::end(Cycles at, uint64_t track) {
  trace::TracePacket packet;
  packet.set_timestamp(nanoseconds(at));
  packet.mutable_track_event()->set_type(trace::TrackEvent::TYPE_SLICE_END);
  packet.mutable_track_event()->set_track_uuid(track);
  put(packet);
}

// Slices of one Perfetto track must nest, so each timeline track is split into lanes in which spans do. Within a lane,
// packets are written in the order of their times, ends before beginnings.
void PacketWriter::writeSpans() {
  struct Lane {
    uint64_t uuid;
    std::vector<Cycles> open; // ends of the open spans, innermost last
  };
  std::vector<std::vector<Lane>> lanes(timeline.tracks.size());
  std::vector<uint32_t> order(timeline.spans.size());
  for (uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  llvm::sort(order, [&](uint32_t a, uint32_t b) {
    const Span &x = timeline.spans[a], &y = timeline.spans[b];
    return x.begin != y.begin ? x.begin < y.begin : x.end != y.end ? x.end > y.end : a < b;
  });
  auto close = [&](Lane &lane, Cycles until) {
    while (!lane.open.empty() && lane.open.back() <= until) {
      end(lane.open.back(), lane.uuid);
      lane.open.pop_back();
    }
  };
  for (uint32_t i : order) {
    const Span &span = timeline.spans[i];
    assert(span.track < timeline.tracks.size() && span.begin <= span.end);
    Lane *free = nullptr;
    for (Lane &lane : lanes[span.track]) {
      close(lane, span.begin);
      if (lane.open.empty() || lane.open.back() >= span.end) {
        free = &lane;
        break;
      }
    }
    if (!free) {
      const Track &track = timeline.tracks[span.track];
      // The first lane is the track itself; the viewer shows siblings of the same name together.
      uint64_t uuid = lanes[span.track].empty() ? uuids[span.track]
                                                : describeTrack(track.name, track.parent ? uuids[*track.parent] : root);
      free = &lanes[span.track].emplace_back(Lane{uuid, {}});
    }
    begin(span, free->uuid);
    free->open.push_back(span.end);
  }
  for (std::vector<Lane> &all : lanes)
    for (Lane &lane : all)
      close(lane, Cycles(INT64_MAX));
}

void PacketWriter::write() {
  root = describeTrack(timeline.model + " on " + timeline.machine, 0);
  for (const Track &track : timeline.tracks) {
    assert((!track.parent || *track.parent < uuids.size()) && "parents come first");
    uuids.push_back(describeTrack(track.name, track.parent ? uuids[*track.parent] : root));
  }
  writeSpans();
  for (const Counter &counter : timeline.counters) {
    uint64_t uuid = describeTrack(counter.name, counter.parent ? uuids[*counter.parent] : root, &counter);
    for (const CounterSample &sample : counter.samples) {
      trace::TracePacket packet;
      packet.set_timestamp(nanoseconds(sample.at));
      trace::TrackEvent &event = *packet.mutable_track_event();
      event.set_type(trace::TrackEvent::TYPE_COUNTER);
      event.set_track_uuid(uuid);
      event.set_double_counter_value(sample.value);
      put(packet);
    }
  }
}

} // namespace

void writePerfetto(const Timeline &timeline, llvm::raw_ostream &os) {
  PacketWriter(timeline, os).write();
}

} // namespace quadrille::timeline
