EXTRA_DIST += docs/design.md docs/security.md
