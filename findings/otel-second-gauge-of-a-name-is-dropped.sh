#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2: of two observable instruments of one name on one meter, the second one's callback
# is never called.
#
# Guess before running: two parts of a program that each make a gauge `pool.depth` on the same meter are both
#   asked at each collection, since each brings a callback of its own; or the second one is refused, or a
#   warning says that there is one already.
# Seen: the second `create_observable_gauge` (counter, up-down counter) gives back the first instrument, and
#   its callback is dropped without an error or a warning. Each collection has the points of the first alone.
# So what makes one instrument for each object of its own (a pool, a client) shows only the first of them:
#   one callback has to go round them all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
  opentelemetry-sdk==1.45.2 opentelemetry-api==1.45.2 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import logging
import warnings
from importlib.metadata import version

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

said = []
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_: said.append(str(message))


class Heard(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


logging.getLogger().addHandler(Heard())
print("opentelemetry-sdk", version("opentelemetry-sdk"))
for kind in ("observable_gauge", "observable_counter", "observable_up_down_counter"):
    reader, asked = InMemoryMetricReader(), []
    meter = MeterProvider([reader]).get_meter("m")
    made = []
    for pool in ("first", "second"):

        def observe(_, pool=pool):
            asked.append(pool)
            return [Observation(1, {"pool": pool})]

        made.append(getattr(meter, f"create_{kind}")("depth", [observe]))
    data = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    points = [dict(point.attributes) for point in metric.data.data_points]
    print(kind, "- asked:", asked, "points:", points, "the same object:", made[0] is made[1])
    assert asked == ["first"], asked
    assert points == [{"pool": "first"}], points
    assert made[0] is made[1]
print("said meanwhile:", said)
assert said == [], said
PY
"$work/venv/bin/python" "$work/seen.py"
