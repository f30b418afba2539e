/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bars on a terminal for long work; nothing in a pipe. One line a part, redrawn at most ten times
 * a second. */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#include "base/sys.h"

enum { MAX_BARS = 8 };
static struct bars {
	bool terminal, quiet;
	unsigned n; /* lines on the screen */
	uint64_t drawn;
	struct bar {
		bool used;
		unsigned key;
		char what[40];
		uint64_t done, total, start;
	} bar[MAX_BARS];
} bars;

static struct bar *bar_of(unsigned key, const char *what)
{
	struct bar *b = NULL;
	for (unsigned i = 0; i < MAX_BARS; i++) {
		if (bars.bar[i].used && bars.bar[i].key == key) {
			b = &bars.bar[i];
			break;
		}
		if (!bars.bar[i].used && !b)
			b = &bars.bar[i];
	}
	if (!b)
		return NULL;
	if (!b->used || strncmp(b->what, what, sizeof(b->what) - 1) != 0) {
		*b = (struct bar){.used = true, .key = key, .start = sys_now_mono()};
		snprintf(b->what, sizeof(b->what), "%s", what);
	}
	return b;
}

static void draw_bar(const struct bar *b, unsigned cols)
{
	char done[16], total[16], rate[16];
	double secs = (double)(sys_now_mono() - b->start) / 1e9;
	fmt_size(b->done, done, sizeof(done));
	fmt_size(secs > 0.05 ? (uint64_t)((double)b->done / secs) : 0, rate, sizeof(rate));
	char tail[96];
	if (b->total) {
		fmt_size(b->total, total, sizeof(total));
		uint64_t pct = b->done >= b->total
				       ? 100
				       : (uint64_t)((double)b->done * 100 / (double)b->total);
		snprintf(tail, sizeof(tail), "%3u%%  %s/%s  %s/s", (unsigned)pct, done, total,
			 rate);
	} else {
		snprintf(tail, sizeof(tail), "%s  %s/s", done, rate);
	}
	int room = (int)cols - 26 - 36;
	fprintf(stderr, "\r\033[K%-24.24s ", b->what);
	if (room >= 10 && b->total) {
		int width = room > 40 ? 40 : room;
		int full = b->done >= b->total ? width
					       : (int)((double)b->done / (double)b->total * width);
		fputc('[', stderr);
		for (int i = 0; i < width; i++)
			fputc(i < full ? '#' : i == full ? '>' : ' ', stderr);
		fputs("] ", stderr);
	}
	fprintf(stderr, "%s\n", tail);
}

static void draw(void)
{
	unsigned short rows = 24, cols = 80;
	term_size(STDERR_FILENO, &rows, &cols);
	if (bars.n)
		fprintf(stderr, "\033[%uA", bars.n);
	bars.n = 0;
	for (unsigned i = 0; i < MAX_BARS; i++) {
		if (!bars.bar[i].used)
			continue;
		draw_bar(&bars.bar[i], cols);
		bars.n++;
	}
	fflush(stderr);
}

static bool tell(void *arg, unsigned key, const char *what, uint64_t done, uint64_t total)
{
	if (!bars.terminal)
		return cli_interrupted;
	struct bar *b = bar_of(key, what);
	if (!b)
		return cli_interrupted;
	b->done = done;
	b->total = total;
	uint64_t now = sys_now_mono();
	bool over = total && done >= total;
	if (over || now - bars.drawn > 100000000) {
		bars.drawn = now;
		draw();
	}
	return cli_interrupted;
}

const struct progress *cli_progress(struct cli *c)
{
	static const struct progress p = {.fn = tell};
	const char *term = getenv("TERM");
	bars.terminal = isatty(STDERR_FILENO) && !c->quiet && term && !str_eq(term, "dumb");
	return &p;
}

void cli_progress_off(void)
{
	bars.terminal = false;
}

void cli_progress_end(void)
{
	if (bars.n)
		draw();
	memset(&bars, 0, sizeof(bars));
}
