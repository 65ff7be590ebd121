#!/bin/sh
# Sets the course up from the folder that this file lies in, with no network:  sh setup.sh [FOLDER]
# FOLDER is where the course shall lie; default ~/tritonlab. Safe to run again after an interruption.
set -eu

kit=$(cd "$(dirname "$0")" && pwd)
course=${1:-$HOME/tritonlab}

fail() { printf '%s\nWhat to do: %s\n' "$1" "$2" >&2; exit 1; }

[ "$(uname -s) $(uname -m)" = "@SYSTEM@" ] ||
  fail "This kit was made for @SYSTEM@; this machine is $(uname -s) $(uname -m)." "Make a kit on a machine of this kind."
command -v make >/dev/null || fail "make is not installed." "Install it: apt install make."
for python in python@PYTHON@ python3 "${PYTHON:-python3}"; do
  "$python" -c 'import sys, ensurepip, venv; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")' 2>/dev/null && break
  python=
done
[ -n "$python" ] || fail "This kit was made for Python @PYTHON@ with its venv module, and there is none here." \
  "Install it, or name it: PYTHON=/path/to/python@PYTHON@ sh setup.sh. For another version make another kit."

if [ ! -e "$course/Makefile" ]; then
  [ ! -e "$course" ] || [ -z "$(ls -A "$course")" ] || fail "$course is not empty." "Name another: sh setup.sh FOLDER."
  mkdir -p "$course"
  cp -R "$kit/course/." "$course"
fi
# pip splits this variable at blanks, and a stick's name may have one.
PIP_FIND_LINKS="file://$(printf %s "$kit/wheels" | sed 's/%/%25/g; s/ /%20/g')"
export PIP_FIND_LINKS PIP_NO_INDEX=1 PIP_CONFIG_FILE=/dev/null
make -C "$course" --no-print-directory setup PYTHON="$(command -v "$python")" TARGET=@TARGET@
quoted=$(printf %s "$course" | sed "s/'/'\\\\''/g")
printf "The course is in %s. Open it:\ncd '%s' && @LAB@\n" "$course" "$quoted"
