"""What ``--help`` shows at the end of every sub-command."""

EXAMPLES: dict[str, list[str]] = {
    "convert": [
        "convert ml-100k",
        "convert ml-1m --download",
        "convert generic --dataset clicks --raw clicks.csv --user_col=user --item_col=item --time_col=time",
    ],
    "stats": ["stats ml-100k", "stats ml-1m --plot sessions.png"],
    "train": [
        "train --model SessionBERT4Rec --dataset ml-100k",
        'train --model=SessionBERT4Rec --dataset=ml-1m --session_features="[ST,SSE]" --seed=7',
        "train --resume=RUN_FOLDER",
        "train --model=SASRec --dataset=ml-1m --learning_rate=1e-3 --resume",
    ],
    "compare": [
        "compare --dataset ml-100k --preset paper --seeds 3",
        "compare --dataset=ml-100k --plan=plan.yaml --workers=2 --epochs=20",
    ],
    "tune": ["tune --dataset ml-100k --trials 20", "tune --dataset=ml-100k --search=space.yaml --timeout=3600"],
    "report": ["report saved/ml-100k/comparison-paper", "report RUN_FOLDER OTHER_RUN_FOLDER --output report"],
    "audit": ["audit RUN_FOLDER"],
    "recommend": [
        "recommend --run RUN_FOLDER --output top.csv",
        "recommend --run RUN_FOLDER --histories histories.csv --output top.jsonl --k 20",
    ],
    "explain": ["explain --run RUN_FOLDER --user 196"],
    "export": ["export --run RUN_FOLDER --output model.onnx"],
}
