"""Serve an exported SessionBERT4Rec with numpy and onnxruntime alone: a history per line in, ten items out.

    recbole-session export --run saved/ml-100k/SessionBERT4Rec-... --output model.onnx
    echo '{"history": [["242", 881250949], ["302", 881251000]], "now": 881337500}' | python serve_onnx.py model

Raw ids are texts, times are Unix seconds. A session opens after a silence of more than ``session_gap`` seconds.
"""

import json
import sys

import numpy as np
import onnxruntime

spec, network = json.load(open(f"{sys.argv[1]}.json")), onnxruntime.InferenceSession(f"{sys.argv[1]}.onnx")  # noqa: PTH123, SIM115
for ask in map(json.loads, sys.stdin):
    history = sorted((event for event in ask["history"] if event[0] in spec["ids"]), key=lambda event: event[1])
    items, times = [spec["ids"][item] for item, _ in history], [*(time for _, time in history), ask["now"]]
    starts = np.diff(times, prepend=-np.inf) > spec["session_gap"]
    source = np.repeat(np.arange(len(times)), 1 + starts * bool(spec["session_token"]))  # the first of a session: twice
    rows = np.array([[*items, spec["mask"]], starts.cumsum(), times])[:, None, source]
    rows[0, 0, np.diff(source, append=-1) == 0] = spec["session_token"]
    scores = network.run(None, dict(zip(spec["inputs"], rows[..., -spec["length"] :])))[0][0]  # noqa: B905
    print(json.dumps([list(spec["ids"])[i - 1] for i in np.argsort(-scores) if i not in {0, *items}][:10]))
