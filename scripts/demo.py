"""Compare what models write on a local page; what `make demo` calls.

python scripts/demo.py outputs/mini
python scripts/demo.py --model a=outputs/mini/runs/ridge-seed1/model --model b=path/to/another
"""

from clp_transfer.demo.command import main

if __name__ == "__main__":
    main()
