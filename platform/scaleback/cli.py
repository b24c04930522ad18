"""The command line: ``scaleback VERB [STUDY] [options]``, and the same verbs on every file in ``jobs/``.

Exit codes: 0 done, 2 the input is wrong (one line a fault, nothing written), 3 some runs failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError

from scaleback.core.errors import InputError, ScalebackError, unknown
from scaleback.core.spec import Spec, fault_lines

OK, WRONG_INPUT, SOME_FAILED, INTERRUPTED = 0, 2, 3, 130
STUDY_VERBS = {
    "plan": "what is to be done and what is there already; touches nothing",
    "run": "do it, then write the report; the same command again resumes",
    "status": "how far it is",
    "report": "write the report of what is there",
    "fit": "fit the laws of what is there",
}
VERBS = {
    **STUDY_VERBS,
    "show": "a contact sheet of a source",
    "export": "images of a source as PNG folder, Parquet, WebDataset or Hugging Face data set",
    "import": "a folder of images, of this or another generator, as one Parquet file",
    "doctor": "check this machine, Ray and the storage",
}


def main(arguments: Sequence[str] | None = None, *, study: Mapping[str, Any] | None = None) -> int:
    """Run one verb; ``study`` is what the job file that calls this studies, and its default verb is ``run``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0].startswith("-"):
            if study is None and not {"-h", "--help"} & set(words):
                raise InputError(f"a verb is needed: {', '.join(VERBS)}; see --help")
            words = ["run" if study is not None else "--help", *words]
        if words[0] == "--help" or words[0] == "-h":
            print(_overview())
            return OK
        verb, *rest = words
        if verb not in VERBS:
            raise InputError(unknown("verb", verb, VERBS))
        return _dispatch(verb, rest, study)
    except ValidationError as error:
        _complain(fault_lines(error, Spec, {}))
        return WRONG_INPUT
    except InputError as error:
        _complain(str(error).splitlines())
        return WRONG_INPUT
    except ScalebackError as error:
        _complain(str(error).splitlines())
        return SOME_FAILED
    except KeyboardInterrupt:
        _complain(["interrupted; the same command again goes on"])
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; so do we
        return OK


def _dispatch(verb: str, words: list[str], study: Mapping[str, Any] | None) -> int:
    if verb == "show":
        from scaleback.commands.show import show

        return show(_show_parser().parse_args(words))
    if verb == "export":
        from scaleback.commands.export import export

        return export(_export_parser().parse_args(words))
    if verb == "import":
        from scaleback.commands.import_folder import import_folder

        return import_folder(_import_parser().parse_args(words))
    if verb == "doctor":
        from scaleback.commands.doctor import doctor

        return doctor(_doctor_parser().parse_args(words))
    options = _study_parser(verb, named=study is None).parse_args(words)
    from scaleback.commands import studies

    commands: dict[str, Callable[..., int]] = {
        "plan": studies.plan,
        "run": studies.run,
        "status": studies.status,
        "report": studies.report,
        "fit": studies.fit,
    }
    return commands[verb](studies.chosen(options, study), options)


class _Parser(argparse.ArgumentParser):
    """argparse, with a wrong option refused in one line that names the nearest one."""

    def error(self, message: str) -> NoReturn:
        wrong = message.removeprefix("unrecognized arguments: ")
        if wrong != message:
            name = (wrong.split() or [""])[0].split("=")[0]
            message = unknown(
                "option", name, [option for option in self._option_string_actions if option.startswith("--")]
            )
        raise InputError(f"{self.prog.split()[-1]}: {message}")


def _study_parser(verb: str, *, named: bool) -> _Parser:
    parser = _Parser(prog=f"scaleback {verb}", description=STUDY_VERBS[verb], allow_abbrev=False)
    if named:
        parser.add_argument("study", nargs="?", default=None, help="name of a file in jobs/, or a path (.py, .yaml)")
    where = _where(parser)
    if verb in ("plan", "run", "status"):
        where.add_argument("--stream", action="store_true", help="draw images while training reads them; store none")
    what = parser.add_argument_group("what is studied")
    what.add_argument("--axis", action="append", default=[], metavar="FIELD=VALUES", help=AXIS_HELP)
    what.add_argument("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE", help=SET_HELP)
    what.add_argument("--seeds", metavar="0,1,2 | 0..4", help="seeds of every point")
    what.add_argument(
        "--target", metavar="NAME|PATH", help="data judged on: a named source, a folder, .parquet or .npz"
    )
    what.add_argument("--measure", action="append", default=[], metavar="EVALUATION.METRIC@IMAGES", help=MEASURE_HELP)
    what.add_argument("--name", help="name of the study")
    what.add_argument("--no-baseline", action="store_true", help="leave out the runs without pre-training")
    search = parser.add_argument_group("searched axes")
    search.add_argument("--search", metavar="SAMPLER", help="tpe, random, gp, nsga2 or qmc")
    search.add_argument("--trials", type=int, help="points a search may propose")
    search.add_argument("--fewest", metavar="FIELD", help="a second objective: as little of this field as possible")
    if verb == "plan":
        parser.add_argument("--yaml", action="store_true", help="print the study as YAML instead")
        parser.add_argument("--fields", action="store_true", help="print every field of a run with its value instead")
    if verb == "run":
        parser.add_argument("--retry-failed", action="store_true", help="also start again what failed before")
        parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


AXIS_HELP = (
    "0.01,0.1 | log:0.005..0.5 | int:2..64 | logint:2..64 | choice:a,b; the last four are searched; "
    "of an axis over cases, the names of those to run"
)
MEASURE_HELP = "what is shown, such as finetune.accuracy@2000 or knn.accuracy; the first is fitted and searched for"
SET_HELP = "any field of the base run; see plan --fields"


def _show_parser() -> _Parser:
    return _source_parser("show", images=32, out="PNG file; the source's name if left out")


def _export_parser() -> _Parser:
    parser = _source_parser("export", images=1_000, out="new folder; named after source and format if left out")
    parser.add_argument("--format", default="folder", help="folder, parquet, webdataset or huggingface")
    return parser


def _import_parser() -> _Parser:
    parser = _Parser(prog="scaleback import", description=VERBS["import"], allow_abbrev=False)
    parser.add_argument("folder", help="folder of images, or of a folder a class; or what export --format folder wrote")
    parser.add_argument("--out", default=None, help="new Parquet file; named after the folder if left out")
    parser.add_argument("--json", action="store_true")
    return parser


def _source_parser(verb: str, *, images: int, out: str) -> _Parser:
    parser = _Parser(prog=f"scaleback {verb}", description=VERBS[verb], allow_abbrev=False)
    parser.add_argument("source", help="kind of a source, such as 1p-frac or digits")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE")
    parser.add_argument("--images", type=int, default=images, help="how many images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="results", help="where what a generator learns is kept")
    parser.add_argument("--out", default=None, help=out)
    parser.add_argument("--json", action="store_true")
    return parser


def _doctor_parser() -> _Parser:
    parser = _Parser(prog="scaleback doctor", description=VERBS["doctor"], allow_abbrev=False)
    _where(parser)
    parser.add_argument(
        "--repair", action="store_true", help="remove damaged artifacts, so that a run makes them again"
    )
    return parser


def _where(parser: _Parser) -> Any:
    where = parser.add_argument_group("where")
    where.add_argument("--placement", default="laptop", help="name of a file in clusters/, or a path")
    where.add_argument("--storage", help="folder, s3:// or gs://; overrides the placement's")
    where.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return where


def _overview() -> str:
    lines = ["usage: scaleback VERB [STUDY] [options]      VERB --help lists its options", ""]
    lines += [f"  {verb:8}{text}" for verb, text in VERBS.items()]
    lines += ["", "STUDY is the name of a file in jobs/ (default scaling_sweep), or the path of a .py or .yaml file."]
    return "\n".join(lines)


def _complain(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"scaleback: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
