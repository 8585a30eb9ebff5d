"""`SessionDataset`: RecBole's loading and filtering, then samples ``(user, end)`` over `UserSequences`."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_session.config.rule_kinds import INTERVAL, TOKENS
from recbole_session.data import batches, splits
from recbole_session.data.atomic import check_times, frame_of, read_header, read_titles
from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.data.stored import load_columns
from recbole_session.errors import InputError, nearest, shown


class SessionDataset(SequentialDataset):
    """The interactions of an atomic file in exact order of time, split as `data.splits` describes.

    `build` returns one view per split over the same flat arrays. A view is indexed with sample numbers and answers with
    an `Interaction`: users and targets, int64 ``[B]``, and their histories in the layout that the model class names as
    ``batch_layout``. That is ``"prefix"`` (RecBole's models), see `batches.prefix_batch`, or ``"tokens"``
    (session-aware models), see `batches.token_batch`.

    Attributes
    ----------
    sequences : UserSequences
        After `build`: every row of every user.
    samples : dict
        After `build`: samples of every split's view. Targets, see `splits.samples_between`; for training in the
        ``"tokens"`` layout what `splits.training_windows` gives.
    valid_from : Tensor
        After `build`: first row of every user that is not for training, int64 ``[U]``.
    tokens : UserSequences
        After `build`, in the ``"tokens"`` layout: what batches are cut from, on `batch_device`.
    """

    inter_feat: Any
    sequences: UserSequences
    tokens: UserSequences
    samples: dict[str, splits.Samples]
    valid_from: Tensor

    # ---- loading: RecBole's, with exact times and with checks

    def _load_data(self, token: str, dataset_path: str) -> None:
        """Load the atomic files; a missing dataset is the user's to make, not ours to download."""
        path = Path(dataset_path) / f"{token}.inter"
        if not path.is_file():
            others = [file.stem for file in path.parent.parent.glob("*/*.inter") if file.stem == file.parent.name]
            raise InputError(
                f"dataset {token!r}: there is no {path}; make it with `recbole-session convert` (see its --help), "
                f"put RecBole's atomic file there, or set data_path{nearest(token, others)}"
            )
        super()._load_data(token, dataset_path)

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        """Read one atomic file; as RecBole does, but for the checks and a parser ten times faster."""
        load_col, unload_col = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        path, layout = Path(filepath), self._text_layout
        fields = read_header(path, *layout)
        if source == FeatureSource.INTERACTION:
            load_col = self._interaction_columns(path, fields, load_col)
        wanted = [name for name in fields if (load_col is None or name in load_col) and name not in (unload_col or ())]
        for name in wanted:
            if fields[name].endswith("seq"):
                raise InputError(
                    f"{path}: column {name!r} is a sequence, which is not supported; name it in unload_col"
                )
            self.field2source[name] = source
            self.field2type[name] = FeatureType(fields[name])
            self.field2seqlen[name] = 1
            if fields[name] == "float":
                self.field2bucketnum[name] = 2
        # What a session is called decides nothing but where the next one starts.
        is_named = {*wanted} - {self.config["SESSION_ID_FIELD"]} | {*(self.config["val_interval"] or ())}
        frame = frame_of(*load_columns(path, fields, wanted, is_named, *layout))
        if source == FeatureSource.INTERACTION:
            check_times(path, self.time_field, frame[self.time_field])
            self._rows_read = len(frame)
        return frame

    @property
    def _text_layout(self) -> tuple[str, str]:
        """Separator and encoding of the atomic files."""
        return self.config["field_separator"], self.config["encoding"] or "utf-8-sig"

    def _interaction_columns(self, path: Path, fields: dict[str, str], load_col: set[str] | None) -> set[str]:
        """Columns of the .inter file to load, after a check that those of ``load_col`` exist."""
        needed = [self.config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
        useful = [self.config[key] for key in ("RATING_FIELD", "SESSION_ID_FIELD")]
        unload = (self.config["unload_col"] or {}).get("inter", ())
        intervals = self.config["val_interval"] or {}
        for name in [*needed, *(load_col or ()), *unload, *intervals]:
            if name not in fields:
                raise InputError(f"{path} has no column {shown(name)}; it has {', '.join(fields)}")
            if name in unload and name in (*needed, *intervals):
                raise InputError(f"unload_col names {name!r}, which is needed; leave it out")
        for name, interval in intervals.items():
            rule = INTERVAL if fields[name] == "float" else TOKENS
            if not rule.allows(interval):
                raise InputError(f"val_interval of {name!r} is {shown(interval)}; allowed: {rule.words}")
        for name, kind in zip((*needed, useful[1]), ("token", "token", "float", "token"), strict=True):
            if fields.get(name, kind) != kind:
                raise InputError(f"{path}, line 1: column {name!r} is of type {fields[name]}; write {name}:{kind}")
        if self.config["load_col"] is None:
            return {name for name in [*needed, *useful, *intervals] if name in fields}
        return {*needed, *intervals, *(load_col if load_col is not None else fields)}

    def _get_load_and_unload_col(self, source: Any) -> tuple[set[str] | None, set[str] | None]:
        """Without ``load_col``, features of users and items stay unread: no supported model uses them."""
        if self.config["load_col"] is None and source != FeatureSource.INTERACTION:
            return set(), None
        return super()._get_load_and_unload_col(source)

    def _filter_nan_user_or_item(self) -> None:
        """Drop rows without a user or an item.

        RecBole 1.2.1 takes the labels of rows for their positions (``dataset.py`` 835). Once rows without a user are
        gone, it drops wrong rows in place of those without an item.
        """
        for field in (self.uid_field, self.iid_field):
            is_missing = self.inter_feat[field].isna()
            if is_missing.any():
                self.logger.warning(
                    f"{self.dataset_name}.inter: {field} is missing in {is_missing.sum():,} of {len(is_missing):,} "
                    f"rows (left out; the first is line {self.inter_feat.index[is_missing][0] + 2})"
                )
                self.inter_feat = self.inter_feat[~is_missing]
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_nan_user_or_item()

    def _remove_duplication(self) -> None:
        """Keep one row per user and item (``rm_dup_inter``) in the file's order; RecBole's sort mixes equal times."""
        if (keep := self.config["rm_dup_inter"]) is not None:
            rows = self.inter_feat.sort_values(self.time_field, kind="stable")
            self.inter_feat = rows.drop_duplicates([self.uid_field, self.iid_field], keep=keep).sort_index()

    def _filter_inter_by_user_or_item(self) -> None:
        """Drop rows of unknown users and items; without a table of them RecBole drops none, but copies all rows."""
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_inter_by_user_or_item()

    def _filter_by_inter_num(self) -> None:
        """Drop users and items with too few or too many rows until none is left; RecBole counts row by row."""
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_by_inter_num()
            return
        fields = {self.uid_field: "user_inter_num_interval", self.iid_field: "item_inter_num_interval"}
        intervals = {field: self._parse_intervals_str(self.config[key]) for field, key in fields.items()}
        while True:
            is_kept = np.ones(len(self.inter_feat), dtype=bool)
            for field, interval in intervals.items():
                if interval is not None:
                    codes = self.inter_feat[field].array.codes
                    is_kept &= self._within_intervals(np.bincount(codes), interval)[codes]
            if is_kept.all():
                return
            self.inter_feat = self.inter_feat[is_kept]

    def _reset_index(self) -> None:
        """Renumber the rows that the filters left; to leave none is a mistake in the keys or the file."""
        if self.inter_feat.empty:
            raise InputError(
                f"dataset {self.dataset_name!r} has no rows left after val_interval, user_inter_num_interval and "
                "item_inter_num_interval; loosen them, or look into the file"
            )
        super()._reset_index()

    def _remap(self, remap_list: list[tuple[pd.DataFrame, str, Any]]) -> None:
        """Number tokens in the order in which they appear, as RecBole does; categories have the numbers already."""
        columns = [feat[field].array for feat, field, _ in remap_list]
        if len(columns) != 1 or not isinstance(columns[0], pd.Categorical):
            for (feat, field, _), tokens in zip(remap_list, columns, strict=True):
                feat[field] = tokens.astype(object)
            super()._remap(remap_list)
            return
        feat, field, _ = remap_list[0]
        codes, tokens = columns[0].codes, columns[0].categories
        if len(feat) != self._rows_read or feat is not self.inter_feat:
            codes, left = pd.factorize(columns[0])
            tokens = left.categories[left.codes]
        feat[field] = codes.astype(np.int32) + np.int32(1)  # 0 where there is none
        if not isinstance(tokens, pd.RangeIndex):
            self.field2id_token[field] = np.array(["[PAD]", *tokens], dtype=object)
            self.field2token_id[field] = {token: number for number, token in enumerate(self.field2id_token[field])}

    def _fill_nan(self) -> None:
        """Fill missing values by assignment; RecBole's in-place fill is a no-op on pandas 3."""
        for feat_name in self.feat_name_list:
            feat = getattr(self, feat_name)
            for field in feat:
                if feat[field].hasnans:
                    is_token = self.field2type[field] == FeatureType.TOKEN
                    feat[field] = feat[field].fillna(0 if is_token else feat[field].mean())

    def _normalize(self) -> None:
        """Normalise as RecBole does, all but the time."""
        if not (self.config["normalize_field"] or self.config["normalize_all"]):
            return
        times = self.inter_feat[self.time_field].copy()
        super()._normalize()
        self.inter_feat[self.time_field] = times

    # ---- samples

    def build(self) -> "list[SessionDataset]":
        """Order the rows, split them, and return the views ``[train, valid, test]``."""
        self._aug_presets()
        # The rows live on as sequences alone: of a hundred million of them, memory has no room for a second copy.
        frame, self.inter_feat = self.inter_feat, self.inter_feat.iloc[:0].copy()  # no view of them either
        session_field = self.config["SESSION_ID_FIELD"]
        users, items, times = (frame.pop(name).to_numpy() for name in (self.uid_field, self.iid_field, self.time_field))
        sessions = frame.pop(session_field).to_numpy() if session_field in frame else None
        del frame
        seconds = np.floor(times).astype(np.int64)
        if (seconds != times).any():  # within a second, fractions say what came first
            order = times.argsort(kind="stable")
            users, items, seconds = users[order], items[order], seconds[order]
            sessions = None if sessions is None else sessions[order]
        times = seconds
        self.sequences = build_user_sequences(users, items, times, self.user_num, sessions, self.config["session_gap"])
        del users, items, times, sessions
        self._prepare_tokens()
        for name in ("user_feat", "item_feat"):
            if getattr(self, name) is not None:
                setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))
        split = self.config["eval_args"]["split"]
        self.valid_from, test_from = splits.split_bounds(self.sequences, split)
        self.samples = {
            "train": self._training_samples(),
            "valid": splits.samples_between(self.sequences, self.valid_from, test_from),
            "test": splits.samples_between(self.sequences, test_from, self.sequences.offsets[1:]),
        }
        if len(self.samples["train"][0]) == 0:
            raise InputError(
                f"dataset {self.dataset_name!r} has no user with two interactions to train on under the split {split}"
            )
        return [self._view(name, *samples) for name, samples in self.samples.items()]

    def unknown_to_training(self) -> list[str]:
        """Sentences about users and test targets that training knows nothing of; after `build`, under ``TS`` alone."""
        split = self.config["eval_args"]["split"]
        if "TS" not in split:
            return []
        sentences = []
        users = splits.users_without_history(self.sequences, self.valid_from)
        if len(users):
            names = ", ".join(map(str, self.id2token(self.uid_field, users[:3].numpy())))
            sentences.append(
                f"split {split}: users who begin after the training period: {len(users):,} ({names}"
                f"{', ...' if len(users) > 3 else ''}); the first interaction of each is not a target"
            )
        targets = self.sequences.items[self.samples["test"][1]]
        n_unknown = int((torch.bincount(self.training_items(), minlength=self.item_num)[targets] == 0).sum())
        if n_unknown:
            sentences.append(
                f"split {split}: {n_unknown:,} of {len(targets):,} test targets are items of which training has no row"
            )
        return sentences

    def with_all_rows(self) -> "SessionDataset":
        """Return a view to train on every row, those of validation and test too; after `build`."""
        whole = copy.copy(self)
        whole.valid_from = self.sequences.offsets[1:]
        return whole._view("train", *whole._training_samples())

    def _training_samples(self) -> splits.Samples:
        if self.batch_layout == "tokens":
            return splits.training_windows(self.sequences, self.valid_from, self.window_stride)
        return splits.samples_between(self.sequences, self.sequences.offsets[:-1], self.valid_from)

    @property
    def window_stride(self) -> int | None:
        """Rows from one training sequence of a user to the next, or None for one sequence per user."""
        share = self.config["window_stride"]
        return None if share is None else max(1, round(share * self.config["MAX_ITEM_LIST_LENGTH"]))

    @property
    def batch_layout(self) -> str:
        """``"tokens"`` or ``"prefix"``, what the model class asks for."""
        return batches.batch_layout(self.config)

    @property
    def batch_device(self) -> torch.device:
        """Where batches are cut: on the device that trains, from rows that stay there, or on the CPU.

        On the CPU in worker processes, and where RecBole draws masks or negatives, which it does there.
        """
        draws_there = self.batch_layout == "prefix" or self.config["train_neg_sample_args"]["distribution"] != "none"
        return torch.device("cpu") if draws_there or self.config["worker"] else self.config["device"]

    def _prepare_tokens(self) -> None:
        """Lay out what session-aware models read: rows, with session tokens between them where ST is on."""
        if self.batch_layout != "tokens":
            return
        tokens, self.token_places = batches.lay_out(self.config, self.item_num, self.sequences)
        self.tokens = tokens.to(self.batch_device)

    def _view(self, split: str, users: Tensor, ends: Tensor) -> "SessionDataset":
        """Return a dataset over the samples of one split; the arrays are shared."""
        target = {self.uid_field: users, self.iid_field: self.sequences.items[ends]}
        view = self.copy(Interaction(target))
        view.split, view.users, view.ends, view.window_ends = split, users, ends, ends
        return view

    def draw_windows(self, generator: torch.Generator) -> None:
        """Draw anew where the windows of the training view end, if there is a ``window_stride``."""
        if self.window_stride is not None and self.batch_layout == "tokens":
            windows = (self.users, self.window_ends)
            self.ends = splits.drawn_ends(self.sequences, windows, self.window_stride, generator)

    def with_sequences(self, sequences: UserSequences, chosen: Tensor) -> "SessionDataset":
        """Return the samples ``chosen`` of this view over rows with other times or sessions; the row numbers stay."""
        view = self.copy(self.inter_feat[chosen])
        view.sequences, view.users, view.ends = sequences, self.users[chosen], self.ends[chosen]
        view._prepare_tokens()
        return view

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """Cut the batch of the samples ``index``."""
        index = torch.as_tensor(index)
        users, ends = self.users[index], self.ends[index]
        targets = self.sequences.items[ends]
        if self.batch_layout == "tokens":
            mask = None if self.split == "train" else batches.mask_token(self.item_num)
            numbers = (users, targets, self.token_places[ends] + 1)  # three per row travel, to where the rows are
            users, targets, places = (values.to(self.batch_device, non_blocking=True) for values in numbers)
            batch = batches.token_batch(self.tokens, users, places, batches.input_length(self.config), mask)
        else:
            batch = batches.prefix_batch(self.config, self.sequences, users, ends)
        interaction = Interaction({self.uid_field: users, self.iid_field: targets, **batch})
        return self.join(interaction) if join else interaction

    def titles(self) -> dict[str, str]:
        """Names of items by raw id, see `atomic.read_titles`."""
        path = Path(self.dataset_path) / f"{self.dataset_name}.item"
        return read_titles(path, self.iid_field, *self._text_layout)

    def training_items(self) -> Tensor:
        """Item of every training row of every user, int64 ``[N]``; after `build`."""
        return self.sequences.items[self.is_training_row()]

    def is_training_row(self) -> Tensor:
        """Which rows of `sequences` are for training, bool ``[N]``; after `build`."""
        n_rows = self.valid_from - self.sequences.offsets[:-1]
        n_rows = n_rows.where(n_rows >= 2, 0)  # one row alone trains nothing
        in_turns = torch.stack((n_rows, self.sequences.lengths - n_rows), dim=1).flatten()
        return torch.tensor([True, False]).repeat(self.sequences.n_users).repeat_interleave(in_turns)

    def __len__(self) -> int:
        """Return the number of samples of a view, or of rows before `build`."""
        return len(self.ends) if hasattr(self, "ends") else len(self.inter_feat)
