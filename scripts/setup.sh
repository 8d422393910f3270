#!/bin/sh
# Makes a checkout ready to run: programs by apt where we may, then .venv with the package. Does nothing twice.
set -eu
cd "$(dirname "$0")/.."
BEGAN=$(date +%s)
say() { printf 'setup      %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# 1. Programs. The stack has a stand-in for each, so none of them missing is an error here.
MISSING=""
have java || MISSING="$MISSING openjdk-17-jre-headless"
have mvn || MISSING="$MISSING maven"
have redis-server || MISSING="$MISSING redis-server"
docker compose version >/dev/null 2>&1 || have docker-compose || MISSING="$MISSING docker-compose"  # a test reads the file
have node && have npm || MISSING="$MISSING nodejs npm"  # the examples in Node, run by the tests
have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || MISSING="$MISSING postgresql"
if [ -n "$MISSING" ]; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        say "installing by apt:$MISSING"
        # The stack makes its own database; Debian's would sit on port 5432 for nothing.
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >/dev/null || say "apt-get update failed; trying with the old lists"
        # One by one: a package that this Debian does not have must not keep the others away.
        for package in $MISSING; do
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
                say "apt could not install $package; the local stack will use a stand-in and say so"
        done
    else
        say "not installed here:$MISSING. Install them for the real thing; the local stack will use stand-ins and say so"
    fi
fi

# 2. Python.
PYTHON=""
for candidate in python3.11 python3.12 python3.13 python3; do
    if have "$candidate" && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
        PYTHON=$candidate
        break
    fi
done
[ -n "$PYTHON" ] || [ -x .venv/bin/python ] || { say "Python 3.11, 3.12 or 3.13 is needed and not on PATH"; exit 1; }
if [ ! -x .venv/bin/python ]; then
    say "making .venv with $PYTHON"
    "$PYTHON" -m venv .venv
fi

# 3. What requirements.lock names, by version and hash, then the package. Again only when one of the two has changed.
STAMP=$(cat pyproject.toml requirements.lock | cksum)
if [ "$(cat .venv/.setup-done 2>/dev/null)" != "$STAMP" ] || [ ! -x .venv/bin/skillcore ]; then
    say "installing what requirements.lock names"
    if have uv; then
        uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock
        uv pip install --quiet --python .venv/bin/python --no-deps -e .
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    fi
    echo "$STAMP" >.venv/.setup-done
else
    say "nothing to install"
fi

# 4. promtool, which lints metrics and alert rules in tests. Debian's package of it is a server that would start itself:
#    only the program is taken out.
if ! have promtool && [ ! -x .venv/bin/promtool ] && have apt-get && have dpkg-deb; then
    PACKAGE=$(mktemp -d)
    if (cd "$PACKAGE" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb .); then
        mv "$PACKAGE/usr/bin/promtool" .venv/bin/promtool
        say "promtool taken from Debian's prometheus"
    else
        say "promtool could not be had from apt: two tests will say NOT RUN"
    fi
    rm -rf "$PACKAGE"
fi
say "ready in $(($(date +%s) - BEGAN)) s: .venv/bin/skillcore"
