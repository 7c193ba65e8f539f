#!/bin/sh
# Install what the page's tests need (playwright-core; the browser is Debian's chromium) into build/web, out of the tree.
#   usage: tests/web/install.sh [FOLDER]     default: build/web
# Does nothing when it is there already: node_modules is as old as the lock file it was made from.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/web}
mkdir -p "$folder"
if [ -f "$folder/node_modules/.installed" ] && cmp -s "$here/package-lock.json" "$folder/node_modules/.installed"; then
    exit 0
fi
cp "$here/package.json" "$here/package-lock.json" "$folder/"
npm ci --prefix "$folder" --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
cp "$here/package-lock.json" "$folder/node_modules/.installed"
