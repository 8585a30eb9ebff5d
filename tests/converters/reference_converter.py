"""The preprocessing once more, as slow and plain as possible: lists, dictionaries and loops."""

from collections import Counter, defaultdict


def prepare(rows, t):
    """Rows (user, item, rating, time) in file order -> rows with the session's number within its user."""
    order_of_users = list(dict.fromkeys(user for user, *_ in rows))
    rows = [row for row in rows if row[2] >= t.min_rating]
    rows_of_item = Counter(item for _, item, *_ in rows)
    rows = [row for row in rows if rows_of_item[row[1]] >= t.min_item_rows]
    rows_of_user = Counter(user for user, *_ in rows)
    rows = [row for row in rows if rows_of_user[row[0]] >= t.min_user_rows]
    histories = defaultdict(list)
    for row in rows:
        histories[row[0]].append(row)
    result = []
    for user in order_of_users:
        history = sorted(histories[user], key=lambda row: row[3])[-t.max_rows_per_user :]
        numbered, session, last = [], 0, None
        for row in history:
            if last is None or row[3] - last > t.session_gap:
                session += 1
            last = row[3]
            numbered.append((*row, session))
        sizes = Counter(row[4] for row in numbered)
        if len(sizes) >= t.min_sessions and all(size >= t.min_rows_per_session for size in sizes.values()):
            result += numbered
    return result


def read_inter(path):
    """Read an .inter file back: header, and rows of text."""
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return header.split("\t"), [line.split("\t") for line in lines]


def numbered_within_user(rows):
    """Turn the file's session tokens into numbers within each user, checking that none is shared."""
    numbers, owner, result = {}, {}, []
    for user, item, rating, time, token in rows:
        assert owner.setdefault(token, user) == user
        own = numbers.setdefault(user, {})
        result.append((user, item, float(rating), int(time), own.setdefault(token, len(own) + 1)))
    return result
