/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

struct table {
	size_t n_cols, n_cells, cap_cells;
	struct column {
		const char *title;
		bool right;
		int width;
	} *cols;
	char **cells; /* row by row; NULL is empty */
	size_t row_start, most_rows;
	bool oom;
};

struct table *table_new(size_t n_cols)
{
	struct table *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->n_cols = n_cols;
	t->cols = calloc(n_cols, sizeof(*t->cols));
	if (!t->cols)
		return table_free(t);
	return t;
}

void table_head(struct table *t, size_t col, const char *title, bool right)
{
	t->cols[col].title = title;
	t->cols[col].right = right;
}

/* Columns on a terminal, not bytes. */
static int width_of(const char *s)
{
	wchar_t buf[512];
	size_t n = mbstowcs(buf, s, ARRAY_LEN(buf));
	if (n == (size_t)-1 || n == ARRAY_LEN(buf))
		return (int)strlen(s);
	int w = wcswidth(buf, n);
	return w < 0 ? (int)strlen(s) : w;
}

static int open_row(struct table *t)
{
	while (t->n_cells < t->row_start + t->n_cols) {
		int r = mem_grow(t->cells, t->n_cells, t->cap_cells);
		if (r < 0)
			return r;
		t->cells[t->n_cells++] = NULL;
	}
	return 0;
}

void table_cell(struct table *t, size_t col, const char *text)
{
	if (t->oom || open_row(t) < 0) {
		t->oom = true;
		return;
	}
	char **cell = &t->cells[t->row_start + col];
	free(*cell);
	*cell = str_escape(text ? text : "-");
	t->oom |= !*cell;
}

void table_row(struct table *t)
{
	t->oom |= open_row(t) < 0;
	t->row_start += t->n_cols;
}

void table_fit(struct table *t, size_t rows) { t->most_rows = rows; }

static void print_cell(FILE *out, const struct column *c, const char *s, bool last)
{
	int pad = c->width - width_of(s);
	if (c->right)
		fprintf(out, "%*s%s", pad, "", s);
	else
		fprintf(out, "%s%*s", s, last ? 0 : pad, "");
	fputs(last ? "\n" : "  ", out);
}

void table_print(struct table *t, FILE *out, bool head)
{
	size_t rows = t->row_start / t->n_cols;
	if (t->most_rows && rows > t->most_rows)
		rows = t->most_rows;
	for (size_t c = 0; c < t->n_cols; c++) {
		struct column *col = &t->cols[c];
		col->width = head ? width_of(col->title) : 0;
		for (size_t r = 0; r < rows; r++) {
			const char *s = t->cells[r * t->n_cols + c];
			int w = width_of(s ? s : "-");
			col->width = w > col->width ? w : col->width;
		}
	}
	for (size_t c = 0; head && c < t->n_cols; c++)
		print_cell(out, &t->cols[c], t->cols[c].title, c + 1 == t->n_cols);
	for (size_t i = 0; i < rows * t->n_cols; i++) {
		size_t c = i % t->n_cols;
		print_cell(out, &t->cols[c], t->cells[i] ? t->cells[i] : "-", c + 1 == t->n_cols);
	}
	if (t->oom)
		fprintf(stderr, "vps: out of memory, the table is not complete\n");
}

struct table *table_free(struct table *t)
{
	if (t) {
		for (size_t i = 0; i < t->n_cells; i++)
			free(t->cells[i]);
		free(t->cells);
		free(t->cols);
		free(t);
	}
	return NULL;
}
