"""Notes that the code of now builds the rows of the earlier version: `python -m devin_pipeline_tests.lakes`.

To be run only after `test_update.py` has shown it.
"""

import json
from pathlib import Path

import devin_pipeline.derived.queries as derived
from devin_pipeline.tables import TABLES

FILE = Path(derived.__file__).parent / "equal_code.json"

equal = json.loads(FILE.read_text())
noted = {name: {**each, "code": derived.code_of(TABLES[name])} for name, each in equal.items()}
FILE.write_text(json.dumps(noted, indent=1) + "\n")
