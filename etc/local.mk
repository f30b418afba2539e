# SPDX-License-Identifier: GPL-2.0-or-later
# What an installed vps has outside of its programs: sample configuration, systemd units, sysv script.
etc_in = etc/vps.service.in etc/vps-audit.service.in etc/vps-snapshot.service.in etc/vps.init.in
EXTRA_DIST += etc/vps.conf etc/vps-audit.timer etc/vps-snapshot.timer $(etc_in)

etc_subst = $(MKDIR_P) $(@D) && \
	$(SED) -e 's|@bindir[@]|$(bindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g'

etc/vps.service: etc/vps.service.in Makefile
	$(AM_V_GEN)$(etc_subst) $(srcdir)/etc/vps.service.in >$@
etc/vps-audit.service: etc/vps-audit.service.in Makefile
	$(AM_V_GEN)$(etc_subst) $(srcdir)/etc/vps-audit.service.in >$@
etc/vps-snapshot.service: etc/vps-snapshot.service.in Makefile
	$(AM_V_GEN)$(etc_subst) $(srcdir)/etc/vps-snapshot.service.in >$@
# The script has its name from the service: vps.
etc/init.d/vps: etc/vps.init.in Makefile
	$(AM_V_GEN)$(etc_subst) $(srcdir)/etc/vps.init.in >$@ && chmod +x $@

# The program has it: `vps completion bash`.
completiondir = $(datadir)/bash-completion/completions
completion_DATA = etc/completion/vps
etc/completion/vps: vps$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ./vps$(EXEEXT) completion bash >$@

initddir = $(sysconfdir)/init.d
initd_SCRIPTS = etc/init.d/vps
CLEANFILES += etc/init.d/vps etc/vps.service etc/vps-audit.service etc/vps-snapshot.service etc/completion/vps

if SYSTEMD_UNITS
systemdsystemunit_DATA = etc/vps.service etc/vps-audit.service etc/vps-audit.timer \
	etc/vps-snapshot.service etc/vps-snapshot.timer
endif

# An operator's configuration is never written over, and goes with an uninstall only as we made it.
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(sysconfdir)/vps/profiles'
	test -e '$(DESTDIR)$(sysconfdir)/vps/vps.conf' || \
		$(INSTALL_DATA) '$(srcdir)/etc/vps.conf' '$(DESTDIR)$(sysconfdir)/vps/vps.conf'
uninstall-local:
	! cmp -s '$(srcdir)/etc/vps.conf' '$(DESTDIR)$(sysconfdir)/vps/vps.conf' || \
		rm -f '$(DESTDIR)$(sysconfdir)/vps/vps.conf'

# Every key is in the sample, the units are good, the script starts, tells and stops.
TESTS += tests/check-etc
EXTRA_DIST += tests/check-etc
