"""The benchmarks by the names that the command line takes."""

from panovlm.evaluation.benchmarks.bench_360 import BENCH_360
from panovlm.evaluation.benchmarks.directions import DIRECTION_ERRORS
from panovlm.evaluation.benchmarks.hstar_bench import HSTAR_BENCH, HSTAR_BENCH_LITE
from panovlm.evaluation.benchmarks.labels import LABELS
from panovlm.evaluation.benchmarks.omnicot import OMNICOT
from panovlm.evaluation.benchmarks.osr_bench import OSR_BENCH
from panovlm.evaluation.benchmarks.panoenv import PANOENV
from panovlm.evaluation.benchmarks.panovqa import PANOVQA
from panovlm.evaluation.benchmarks.quic360 import QUIC_360, QUIC_360_ROWS
from panovlm.evaluation.benchmarks.records import RECORDS
from panovlm.evaluation.benchmarks.refer360 import REFER_360

RECORDS_NAME = "records"
BENCHMARKS = {
    "quic-360": QUIC_360,
    "quic-360-rows": QUIC_360_ROWS,
    "osr-bench": OSR_BENCH,
    "hstar-bench": HSTAR_BENCH,
    "experimental-hstar-bench-lite": HSTAR_BENCH_LITE,
    "panoenv": PANOENV,
    "360bench": BENCH_360,
    "omnicot": OMNICOT,
    "panovqa": PANOVQA,
    "refer360": REFER_360,
    "directions": DIRECTION_ERRORS,
    "labels": LABELS,
    RECORDS_NAME: RECORDS,
}
