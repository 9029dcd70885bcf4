#!/usr/bin/env bash
# A fresh Ubuntu node with the project in ~/depth-trainability → ~/environment with the pinned libraries.
# Running it again changes nothing that is as it should be.
set -euo pipefail

project=~/depth-trainability
environment=~/environment

export DEBIAN_FRONTEND=noninteractive
sudo apt-get -o DPkg::Lock::Timeout=600 update --quiet
sudo apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes g++ git nfs-common python3-venv

python3 -c 'import sys; assert sys.version_info >= (3, 11), f"Python {sys.version} is too old; use Ubuntu 24.04"'
[ -x "$environment/bin/pip" ] || python3 -m venv "$environment"
cd "$project"
"$environment/bin/pip" install --quiet --constraint constraints.txt --editable ".[cluster]"
