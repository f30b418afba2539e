/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers with units: the second half of base/str.h. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define KI	  1024ull
#define MI	  (KI * 1024)
#define GI	  (MI * 1024)
#define TI	  (GI * 1024)
#define PI	  (TI * 1024)
#define KILO	  1000ull
#define MEGA	  (KILO * 1000)
#define GIGA	  (MEGA * 1000)
#define TERA	  (GIGA * 1000)
#define PETA	  (TERA * 1000)
#define MINUTE_MS (60 * KILO)
#define HOUR_MS	  (60 * MINUTE_MS)
#define DAY_MS	  (24 * HOUR_MS)

struct unit {
	const char *name;
	uint64_t factor;
};

/* clang-format off */
static const struct unit size_units[] = {
	{"", 1}, {"B", 1},
	{"K", KI}, {"Ki", KI}, {"KiB", KI}, {"kB", KILO},
	{"M", MI}, {"Mi", MI}, {"MiB", MI}, {"MB", MEGA},
	{"G", GI}, {"Gi", GI}, {"GiB", GI}, {"GB", GIGA},
	{"T", TI}, {"Ti", TI}, {"TiB", TI}, {"TB", TERA},
	{"P", PI}, {"Pi", PI}, {"PiB", PI}, {"PB", PETA},
	{0},
};

static const struct unit duration_units[] = {
	{"", KILO}, {"ms", 1}, {"s", KILO}, {"m", MINUTE_MS}, {"h", HOUR_MS}, {"d", DAY_MS},
	{0},
};

static const struct unit bit_units[] = {
	{"", 1}, {"bit", 1},
	{"k", KILO}, {"kbit", KILO},
	{"M", MEGA}, {"Mbit", MEGA},
	{"G", GIGA}, {"Gbit", GIGA},
	{"T", TERA}, {"Tbit", TERA},
	{0},
};
/* clang-format on */

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at *s into *v; moves *s behind them. -EINVAL without one, -ERANGE on overflow. */
static int scan_u64(const char **s, uint64_t *v)
{
	bool over = false;

	if (!is_digit(**s))
		return -EINVAL;
	*v = 0;
	for (; is_digit(**s); (*s)++)
		over = over || __builtin_mul_overflow(*v, 10, v) ||
		       __builtin_add_overflow(*v, (unsigned)(**s - '0'), v);
	return over ? -ERANGE : 0;
}

/* The digits behind a point, in billionths; those behind the ninth carry no weight here. */
static int scan_fraction(const char **s, uint64_t *billionths)
{
	uint64_t weight = 100000000;

	if (!is_digit(**s))
		return -EINVAL;
	for (*billionths = 0; is_digit(**s); (*s)++, weight /= 10)
		*billionths += weight * (unsigned)(**s - '0');
	return 0;
}

static const struct unit *find_unit(const struct unit *u, const char *name)
{
	for (; u->name; u++)
		if (strcasecmp(u->name, name) == 0)
			return u;
	return NULL;
}

static int parse_scaled(const char *s, const struct unit *units, uint64_t *ret)
{
	uint64_t whole, billionths = 0, v;
	int range = scan_u64(&s, &whole);

	if (range == -EINVAL)
		return range;
	if (*s == '.') {
		s++;
		if (scan_fraction(&s, &billionths) < 0)
			return -EINVAL;
	}

	const struct unit *u = find_unit(units, s);

	if (!u || (billionths && u->factor == 1))
		return -EINVAL;
	if (range < 0 || __builtin_mul_overflow(whole, u->factor, &v))
		return -ERANGE;

	/* factor < 2^50 and billionths < 2^30 do not fit 64 bits together. */
	uint64_t part = (uint64_t)((unsigned __int128)billionths * u->factor / 1000000000u);

	if (__builtin_add_overflow(v, part, &v))
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = scan_u64(&s, &v);

	if (r == -EINVAL || *s)
		return -EINVAL;
	if (r < 0 || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret)
{
	if (str_eq(s, "max") || str_eq(s, "unlimited")) {
		*ret = UINT64_MAX;
		return 0;
	}
	return parse_scaled(s, size_units, ret);
}

int parse_duration_ms(const char *s, uint64_t *ret)
{
	return parse_scaled(s, duration_units, ret);
}

int parse_bitrate(const char *s, uint64_t *ret)
{
	return parse_scaled(s, bit_units, ret);
}

char *fmt_size(uint64_t bytes, char *buf, size_t len)
{
	static const char letters[] = "BKMGTPE";
	unsigned u = 0;

	if (bytes == UINT64_MAX) {
		snprintf(buf, len, "max");
		return buf;
	}
	while (u < 6 && bytes >> (10 * u) >= 1024)
		u++;

	/* Hundredths in integers: a double would bring in the locale's decimal point. */
	uint64_t unit = 1ull << (10 * u);
	uint64_t hundredths =
		(uint64_t)(((unsigned __int128)bytes * 100 + (u ? unit / 2 : 0)) >> (10 * u));

	if (hundredths >= 1000) /* from 10 up one digit behind the point is enough */
		hundredths = (hundredths + 5) / 10 * 10;
	if (hundredths >= 10000)
		hundredths = (hundredths + 50) / 100 * 100;
	if (hundredths >= 102400 && u < 6) { /* rounded up to the next unit */
		hundredths = 100;
		u++;
	}

	unsigned whole = (unsigned)(hundredths / 100), part = (unsigned)(hundredths % 100);

	if (part == 0)
		snprintf(buf, len, "%u%c", whole, letters[u]);
	else if (part % 10 == 0)
		snprintf(buf, len, "%u.%u%c", whole, part / 10, letters[u]);
	else
		snprintf(buf, len, "%u.%02u%c", whole, part, letters[u]);
	return buf;
}

char *fmt_duration(uint64_t seconds, char *buf, size_t len)
{
	static const struct {
		char letter;
		uint32_t seconds;
	} units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
	size_t i = 0;

	while (i < 3 && seconds < units[i].seconds)
		i++;

	unsigned long long big = seconds / units[i].seconds;
	unsigned small = i < 3 ? (unsigned)(seconds % units[i].seconds / units[i + 1].seconds) : 0;

	if (small)
		snprintf(buf, len, "%llu%c%u%c", big, units[i].letter, small, units[i + 1].letter);
	else
		snprintf(buf, len, "%llu%c", big, units[i].letter);
	return buf;
}
