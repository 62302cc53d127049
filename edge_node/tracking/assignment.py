"""The cheapest pairing of two sets: shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987).

SciPy has it too, for 100 MB on an edge that needs nothing else of it; nearly all pairs of a frame are out of reach of
each other, so the problem falls apart into pieces of a few rows.
"""

from typing import Any

import numpy as np

Costs = np.ndarray[Any, np.dtype[np.float64]]


def assign(costs: Costs, most: float) -> list[tuple[int, int]]:
    """Pairs (row, column), each used once at most, with the least sum of `cost - most`: none costs more than `most`.

    costs: (rows, columns), finite or inf, any sign.
    """
    pairs: list[tuple[int, int]] = []
    for rows, columns in _pieces(costs < most):
        if len(rows) == 1 or len(columns) == 1:
            piece = costs[np.ix_(rows, columns)]
            row, column = divmod(int(piece.argmin()), len(columns))
            pairs.append((rows[row], columns[column]))
        else:
            pairs += [(rows[row], columns[column]) for row, column in _solve(costs[np.ix_(rows, columns)], most)]
    return sorted(pairs)


def _pieces(near: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[tuple[list[int], list[int]]]:
    """Rows and columns that hang together."""
    of_row: list[list[int]] = [[] for _ in range(near.shape[0])]
    of_column: list[list[int]] = [[] for _ in range(near.shape[1])]
    for row, column in np.argwhere(near).tolist():
        of_row[row].append(column)
        of_column[column].append(row)
    pieces, seen_rows, seen_columns = [], set[int](), set[int]()
    for start in range(len(of_row)):
        if start in seen_rows or not of_row[start]:
            continue
        rows, columns, queue = [], list[int](), [start]
        seen_rows.add(start)
        while queue:
            row = queue.pop()
            rows.append(row)
            for column in of_row[row]:
                if column in seen_columns:
                    continue
                seen_columns.add(column)
                columns.append(column)
                fresh = [other for other in of_column[column] if other not in seen_rows]
                seen_rows.update(fresh)
                queue += fresh
        pieces.append((sorted(rows), sorted(columns)))
    return pieces


def _solve(costs: Costs, most: float) -> list[tuple[int, int]]:
    """One row after the other takes a column, and others give way; a row may stay alone at the price `most`."""
    count, width = costs.shape
    alone = np.full((count, count), np.inf)  # a column for each row of its own
    np.fill_diagonal(alone, most)
    table = np.hstack([np.where(costs < most, costs, np.inf), alone])
    total = width + count
    row_price, column_price = np.zeros(count), np.zeros(total)
    taken_by = np.full(total, -1)
    for start in range(count):
        least, came_from = np.full(total, np.inf), np.full(total, -1)
        done = np.zeros(total, bool)
        row, column, distance = start, -1, 0.0
        while True:
            reach = distance + table[row] - row_price[row] - column_price
            better = ~done & (reach < least)
            least[better], came_from[better] = reach[better], column
            column = int(np.where(done, np.inf, least).argmin())
            distance = float(least[column])
            done[column] = True
            if taken_by[column] < 0:
                break
            row = int(taken_by[column])
        settled = done.copy()
        settled[column] = False
        row_price[start] += distance
        gained = distance - least[settled]
        row_price[taken_by[settled]] += gained
        column_price[settled] -= gained
        while column >= 0:
            before = int(came_from[column])
            taken_by[column] = start if before < 0 else taken_by[before]
            column = before
    return [(int(taken_by[column]), column) for column in range(width) if taken_by[column] >= 0]
