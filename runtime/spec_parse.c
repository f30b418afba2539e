// SPDX-License-Identifier: GPL-2.0-or-later
/* The small languages of single settings, without any host access. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "netns/netns.h"
#include "runtime/spec_fields.h"

static int parse_port(const char *s, uint16_t *ret)
{
	uint64_t v;

	if (parse_u64(s, 65535, &v) < 0 || v == 0)
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

/* Cut "ADDR:" or "[ADDR6]:" off the front of s; *rest is behind it. */
static int publish_host(char *s, struct net_addr *ret, char **rest)
{
	char *end;

	memset(ret, 0, sizeof(*ret));
	if (*s == '[') {
		end = strchr(s, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		*end = '\0';
		*rest = end + 2;
		return strchr(s + 1, '/') ? -EINVAL : net_addr_parse(s + 1, ret);
	}
	end = strchr(s, ':');
	if (!end || !strchr(end + 1, ':')) { /* HOST:GUEST alone */
		*rest = s;
		return 0;
	}
	*end = '\0';
	*rest = end + 1;
	return strchr(s, '/') ? -EINVAL : net_addr_parse(s, ret);
}

int spec_publish_parse(const char *text, struct net_publish *ret)
{
	struct net_publish p = {.proto = IPPROTO_TCP};
	char buf[128], *s = buf, *slash, *colon;

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	strcpy(buf, text);
	slash = strrchr(s, '/');
	if (slash) {
		*slash = '\0';
		if (str_eq(slash + 1, "udp"))
			p.proto = IPPROTO_UDP;
		else if (!str_eq(slash + 1, "tcp"))
			return -EINVAL;
	}
	if (publish_host(s, &p.host, &s) < 0)
		return -EINVAL;
	colon = strchr(s, ':');
	if (!colon)
		return -EINVAL;
	*colon = '\0';
	if (parse_port(s, &p.host_port) < 0 || parse_port(colon + 1, &p.guest_port) < 0)
		return -EINVAL;
	*ret = p;
	return 0;
}

int spec_mac_parse(const char *s, uint8_t ret[6])
{
	uint8_t mac[6];

	if (strlen(s) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		const char *p = s + i * 3;
		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) ||
		    (i < 5 && p[2] != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)strtoul((char[]){p[0], p[1], 0}, NULL, 16);
	}
	if ((mac[0] & 1) || memcmp(mac, "\0\0\0\0\0", 6) == 0)
		return -EINVAL;
	memcpy(ret, mac, 6);
	return 0;
}

int spec_words(const char *s, char ***ret)
{
	auto_strv words = NULL;

	for (;;) {
		auto_strbuf word = STRBUF_INIT;
		char quote = 0;
		while (isspace((unsigned char)*s))
			s++;
		if (!*s)
			break;
		for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
			if (quote ? *s == quote : (*s == '\'' || *s == '"'))
				quote = quote ? 0 : *s;
			else if (*s == '\\' && quote != '\'' && s[1])
				sb_addc(&word, *++s);
			else
				sb_addc(&word, *s);
		}
		if (quote)
			return -EINVAL;
		if (strv_take(&words, sb_take(&word)) < 0)
			return -ENOMEM;
	}
	if (!words)
		return -EINVAL;
	*ret = take_ptr(words);
	return 0;
}
