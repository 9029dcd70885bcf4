#!/usr/bin/env bash
# An NFS export (EFS, or a server of one's own), as HOST:PATH → /shared, the folder where studies keep their records.
# Running it again changes nothing that is as it should be.
set -euo pipefail

export_path=${1:?give HOST:PATH of the NFS export}
shared=${2:-/shared}
# hard: a server that is away makes writers wait, and nothing is lost. lookupcache=pos: what another node has just made
# is seen at once, even where it was looked for before.
options=nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,lookupcache=pos
case $export_path in
    *.amazonaws.com:*) options+=,noresvport ;; # EFS asks for it; servers of one's own refuse such ports by default
esac

sudo mkdir -p "$shared"
# In fstab, so that a node that starts anew has it again.
sudo sed -i "\# $shared nfs4 #d" /etc/fstab
echo "$export_path $shared nfs4 $options,_netdev,nofail 0 0" | sudo tee -a /etc/fstab > /dev/null
mountpoint --quiet "$shared" || sudo mount "$shared"

for folder in studies data reports; do
    # On a new EFS root alone can make them; on a server of one's own root can do nothing (root_squash).
    mkdir -p "$shared/$folder" 2> /dev/null ||
        sudo install -d -m 0750 -o "$(id -un)" -g "$(id -gn)" "$shared/$folder" || true
    if ! probe=$(mktemp "$shared/$folder/.write-test.XXXXXX"); then
        echo "$shared/$folder: user $(id -un) (uid $(id -u)) cannot write here; on the server, give it to this uid" >&2
        exit 1
    fi
    rm "$probe"
done
