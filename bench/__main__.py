"""Run every benchmark: `python -m bench [NAME …]`. Each module of this folder is one and has a `main()`."""

import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run the named benchmarks, or all, one after the other, so that none disturbs another."""
    here = Path(__file__).parent
    known = sorted(path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))
    wanted = sys.argv[1:] or known
    for name in wanted:
        if name not in known:
            print(f"no benchmark {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    failed = False
    for name in wanted:
        print(f"== bench/{name}.py", flush=True)
        failed |= bool(importlib.import_module(f"bench.{name}").main())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
