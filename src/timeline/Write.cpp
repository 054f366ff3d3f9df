#include "timeline/Write.h"

#include "base/File.h"
#include "timeline/Summary.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

namespace quadrille::timeline {

std::string pathOf(const Timeline &timeline, TrackId track) {
  const Track &it = timeline.tracks[track];
  return it.parent ? pathOf(timeline, *it.parent) + "/" + it.name : it.name;
}

static void writeField(llvm::StringRef field, llvm::raw_ostream &os) {
  if (field.find_first_of(",\"\r\n") == llvm::StringRef::npos) {
    os << field;
    return;
  }
  os << '"';
  for (char c : field) {
    if (c == '"')
      os << '"';
    os << c;
  }
  os << '"';
}

void writeCsv(const Timeline &timeline, llvm::raw_ostream &os) {
  std::vector<std::string> paths;
  for (TrackId track = 0; track < timeline.tracks.size(); ++track)
    paths.push_back(pathOf(timeline, track));
  os << "track,category,name,kernel,kind,nodes,interval,begin_cycle,end_cycle\r\n";
  static const KernelRecord none;
  for (const Span &span : timeline.spans) {
    const KernelRecord &kernel = span.kernel == noKernel ? none : timeline.kernels[span.kernel];
    std::string nodes = llvm::join(kernel.nodes, ";");
    for (llvm::StringRef field :
         {llvm::StringRef(paths[span.track]), llvm::StringRef(nameOf(span.category)), llvm::StringRef(span.name),
          llvm::StringRef(kernel.name), llvm::StringRef(kernel.kind), llvm::StringRef(nodes)}) {
      writeField(field, os);
      os << ',';
    }
    os << span.interval << ',' << span.begin.value << ',' << span.end.value << "\r\n";
  }
}

namespace {

std::string text(const std::string &string) {
  return llvm::json::fixUTF8(string);
}

void number(llvm::json::OStream &json, llvm::StringRef key, double value) {
  if (std::isfinite(value))
    json.attribute(key, value);
  else
    json.attribute(key, nullptr);
}

void strings(llvm::json::OStream &json, llvm::StringRef key, const std::vector<std::string> &values) {
  json.attributeArray(key, [&] {
    for (const std::string &value : values)
      json.value(text(value));
  });
}

void writeFigures(llvm::json::OStream &json, const Figures &figures) {
  auto optional = [&](llvm::StringRef key, std::optional<double> value) { number(json, key, value.value_or(NAN)); };
  auto integer = [&](llvm::StringRef key, std::optional<int64_t> value) {
    if (value)
      json.attribute(key, *value);
    else
      json.attribute(key, nullptr);
  };
  json.attributeObject("figures", [&] {
    json.attribute("replicas", figures.replicas);
    integer("interval_cycles", figures.interval ? std::optional(figures.interval->value) : std::nullopt);
    optional("host_interval_s", figures.hostIntervalSeconds);
    optional("peak_operations_per_s", figures.peakOperations);
    optional("memory_bytes", figures.memoryBytes);
    optional("memory_peak_bytes", figures.memoryPeakBytes);
    optional("energy_j", figures.energyJoules);
    integer("instructions", figures.instructions);
    json.attribute("limited_by", figures.limitedBy);
  });
}

void writeSummary(llvm::json::OStream &json, const Timeline &timeline) {
  Summary summary = summarize(timeline);
  number(json, "flops", summary.flops);
  number(json, "bytes", summary.bytes);
  json.attributeObject("categories", [&] {
    for (size_t c = 0; c < categoryCount; ++c)
      json.attributeObject(nameOf(static_cast<Category>(c)), [&] {
        json.attribute("active_cycles", summary.categories[c].active.value);
        json.attribute("track_cycles", summary.categories[c].onTracks.value);
      });
  });
  json.attributeArray("track_times", [&] {
    for (const TrackTime &time : summary.tracks)
      json.object([&] {
        json.attribute("track", static_cast<int64_t>(time.track));
        json.attribute("busy_cycles", time.busy.value);
        number(json, "utilisation", time.utilisation);
        for (size_t c = 0; c < categoryCount; ++c)
          json.attribute(nameOf(static_cast<Category>(c)), time.inCategory[c].value);
      });
  });
  json.attributeArray("kernel_times", [&] {
    for (const KernelTime &time : summary.kernels)
      json.object([&] {
        json.attribute("kernel", static_cast<int64_t>(time.kernel));
        json.attribute("active_cycles", time.active.value);
        json.attribute("track_cycles", time.onTracks.value);
        json.attribute("begin_cycle", time.begin.value);
        json.attribute("end_cycle", time.end.value);
      });
  });
}

void writeAttribution(llvm::json::OStream &json, const Attribution &attribution) {
  strings(json, "causes", attribution.causes);
  auto cycles = [&](const std::vector<Cycles> &byCause) {
    for (Cycles each : byCause)
      json.value(each.value);
  };
  json.attributeArray("devices", [&] {
    for (const std::vector<Cycles> &device : attribution.devices)
      json.array([&] { cycles(device); });
  });
  json.attributeArray("kernels", [&] {
    for (const Attribution::Share &share : attribution.kernels)
      json.object([&] {
        if (share.kernel == noKernel)
          json.attribute("kernel", nullptr);
        else
          json.attribute("kernel", static_cast<int64_t>(share.kernel));
        json.attributeArray("cycles", [&] { cycles(share.cycles); });
        number(json, "peak_cycles", share.peakCycles);
      });
  });
  json.attribute("peak_of", text(attribution.peakName));
}

} // namespace

void writeJson(const Timeline &timeline, llvm::raw_ostream &os) {
  llvm::json::OStream json(os, 1);
  json.object([&] {
    json.attribute("machine", text(timeline.machine));
    json.attribute("model", text(timeline.model));
    number(json, "clock_hz", timeline.clockHertz);
    json.attribute("cycles", timeline.cycles.value);
    number(json, "device_s", timeline.deviceSeconds());
    number(json, "host_s", timeline.hostSeconds);
    writeFigures(json, timeline.figures);
    strings(json, "assumed_figures", timeline.assumedFigures);
    json.attributeObject("summary", [&] { writeSummary(json, timeline); });
    json.attributeArray("kernels", [&] {
      for (const KernelRecord &kernel : timeline.kernels)
        json.object([&] {
          json.attribute("name", text(kernel.name));
          json.attribute("kind", text(kernel.kind));
          json.attribute("placement", text(kernel.placement));
          strings(json, "nodes", kernel.nodes);
          number(json, "flops", kernel.flops);
          number(json, "bytes", kernel.bytes);
        });
    });
    json.attributeArray("tracks", [&] {
      for (const Track &track : timeline.tracks)
        json.object([&] {
          json.attribute("name", text(track.name));
          if (track.parent)
            json.attribute("parent", static_cast<int64_t>(*track.parent));
        });
    });
    json.attributeArray("spans", [&] {
      for (const Span &span : timeline.spans)
        json.object([&] {
          json.attribute("track", static_cast<int64_t>(span.track));
          json.attribute("category", nameOf(span.category));
          if (!span.name.empty())
            json.attribute("name", text(span.name));
          if (span.kernel != noKernel)
            json.attribute("kernel", static_cast<int64_t>(span.kernel));
          json.attribute("begin_cycle", span.begin.value);
          json.attribute("end_cycle", span.end.value);
          if (span.interval > 1)
            json.attribute("interval", span.interval);
        });
    });
    json.attributeArray("tables", [&] {
      for (const Table &table : timeline.tables)
        json.object([&] {
          json.attribute("title", text(table.title));
          strings(json, "columns", table.columns);
          json.attributeArray("rows", [&] {
            for (const std::vector<std::string> &row : table.rows)
              json.array([&] {
                for (const std::string &cell : row)
                  json.value(text(cell));
              });
          });
          json.attribute("note", text(table.note));
        });
    });
    json.attributeObject("attribution", [&] { writeAttribution(json, timeline.attribution); });
    json.attributeArray("counters", [&] {
      for (const Counter &counter : timeline.counters)
        json.object([&] {
          json.attribute("name", text(counter.name));
          json.attribute("unit", text(counter.unit));
          if (counter.parent)
            json.attribute("track", static_cast<int64_t>(*counter.parent));
          json.attributeArray("samples", [&] {
            for (const CounterSample &sample : counter.samples)
              json.array([&] {
                json.value(sample.at.value);
                if (std::isfinite(sample.value))
                  json.value(sample.value);
                else
                  json.value(nullptr);
              });
          });
        });
    });
  });
  os << '\n';
}

llvm::Error writePerfettoFile(const Timeline &timeline, llvm::StringRef path) {
  return writeFileAtomically(path, [&](llvm::raw_pwrite_stream &os) {
    writePerfetto(timeline, os);
    return llvm::Error::success();
  });
}

llvm::Error writeCsvFile(const Timeline &timeline, llvm::StringRef path) {
  return writeFileAtomically(path, [&](llvm::raw_pwrite_stream &os) {
    writeCsv(timeline, os);
    return llvm::Error::success();
  });
}

} // namespace quadrille::timeline
