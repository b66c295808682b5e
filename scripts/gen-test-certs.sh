#!/bin/sh
# Certificates for tests and for trying things out. Never for production: the CA's key lies beside them.
#
#   scripts/gen-test-certs.sh [DIR]        (default: tests/tls)
#
# ca.crt/key                 root CA
# server.crt/key             server, for localhost, 127.0.0.1 and ::1
# client.crt/key             client only
# kettle.crt/key             generic: server and client (redis.crt/key are the same, for scripts that look for that name)
# *-rsa.crt/key              the same with RSA-2048 (the others are ECDSA P-256)
# expired.crt/key            signed by the CA, no longer valid
# server-enc.key             server.key, encrypted; the passphrase is "kettle"
# other-ca.crt, rogue-client.crt/key   another CA and a client certificate of it
# kettle.dh                  Diffie-Hellman parameters (RFC 7919 ffdhe2048)
# intermediate.crt/key       CA signed by the CA; server-chain.crt/key: server of it, the intermediate CA's certificate behind its own
# sni-a.crt/key, sni-wild.crt/key      servers for a.example.org and *.example.org
# user-uri.crt/key           client with the alternative names URI:urn:kettle:user:alice and URI:urn:kettle:user:second
# revoked-client.crt/key     client that ca.crl revokes
# ca.crl                     revocation list of the CA
# server.ocsp                OCSP response (DER) for server.crt: good, for a year
#
# What is there and still valid for a day is kept. Keys have mode 0600.
set -eu
case ${1:-} in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    -*) echo "gen-test-certs.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
esac
die() { echo "gen-test-certs.sh: $*" >&2; exit 1; }
command -v openssl >/dev/null || die "the openssl program is missing (Debian package openssl)"
dir=${1:-"$(cd "$(dirname "$0")/.." && pwd)/tests/tls"}
mkdir -p -- "$dir" || die "no directory '$dir'"
[ -w "$dir" ] || die "cannot write to '$dir'"
cd -- "$dir"
umask 077
exec 9> .lock
flock 9 2>/dev/null || true

fresh() { [ -s "$1.crt" ] && [ -s "$1.key" ] && openssl x509 -in "$1.crt" -noout -checkend 86400 >/dev/null 2>&1; }

new_key() { # new_key NAME ec|rsa
    if [ "$2" = rsa ]; then
        openssl genrsa -out "$1.key" 2048 2>/dev/null
    else
        openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    fi
    chmod 600 "$1.key"
}

make_ca() { # make_ca NAME SUBJECT
    fresh "$1" && return 0
    new_key "$1" ec
    openssl req -x509 -new -sha256 -key "$1.key" -days 3650 -subj "$2" -out "$1.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    made_ca=yes
}

sign() { # sign NAME ec|rsa CA SUBJECT USAGE [openssl x509 options]
    name=$1 kind=$2 ca=$3 subject=$4 usage=$5
    shift 5
    new_key "$name" "$kind"
    {
        echo 'basicConstraints=critical,CA:FALSE'
        echo 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'
        echo "extendedKeyUsage=$usage"
    } > .ext
    openssl req -new -sha256 -key "$name.key" -subj "$subject" -out .csr
    openssl x509 -req -sha256 -in .csr -CA "$ca.crt" -CAkey "$ca.key" -set_serial "0x$(openssl rand -hex 8)" -extfile .ext -out "$name.crt" "$@" 2>/dev/null
    rm -f .csr .ext
}

leaf() { # leaf NAME ec|rsa CA SUBJECT USAGE
    [ "$made_ca" = no ] && fresh "$1" && return 0
    sign "$@" -days 365
}

made_ca=no
make_ca ca '/O=Kettle Test/CN=Certificate Authority'
for kind in ec rsa; do
    suffix=''
    [ $kind = rsa ] && suffix=-rsa
    leaf "server$suffix" $kind ca '/O=Kettle Test/CN=localhost' serverAuth
    leaf "client$suffix" $kind ca '/O=Kettle Test/CN=Client-only' clientAuth
    leaf "kettle$suffix" $kind ca '/O=Kettle Test/CN=Generic-cert' serverAuth,clientAuth
done
cp -p kettle.crt redis.crt
cp -p kettle.key redis.key
# openssl x509 takes only whole days; a certificate of the past needs the ca command's dates.
if [ ! -s expired.crt ] || [ "$made_ca" = yes ]; then
    new_key expired ec
    openssl req -new -sha256 -key expired.key -subj '/O=Kettle Test/CN=Expired' -out .csr
    : > .index
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=.index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nx509_extensions=e\n[p]\nO=optional\nCN=supplied\n[e]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth,clientAuth\n' > .conf
    openssl ca -batch -notext -config .conf -cert ca.crt -keyfile ca.key -startdate 20200101000000Z -enddate 20200201000000Z -in .csr -out expired.crt 2>/dev/null
    rm -f .csr .conf .index .index.* ./[0-9A-F]*.pem
fi
[ -s server-enc.key ] && [ server-enc.key -nt server.key ] || openssl pkey -in server.key -aes256 -passout pass:kettle -out server-enc.key
ca_changed=$made_ca
made_ca=no
make_ca other-ca '/O=Kettle Test/CN=Another Authority'
leaf rogue-client ec other-ca '/O=Kettle Test/CN=Rogue' clientAuth
made_ca=$ca_changed
[ -s kettle.dh ] || openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out kettle.dh 2>/dev/null || openssl dhparam -out kettle.dh 2048 2>/dev/null
chmod 600 ./*.key
chmod 644 ./*.crt kettle.dh

# ---- an intermediate CA, names, users, revocation, OCSP

named() { # named NAME CA SUBJECT SAN USAGE [ca]
    [ "$made_ca" = no ] && fresh "$1" && return 0
    new_key "$1" ec
    if [ "${6:-}" = ca ]; then
        printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' > .ext
    else
        printf 'basicConstraints=critical,CA:FALSE\nsubjectAltName=%s\nextendedKeyUsage=%s\n' "$4" "$5" > .ext
    fi
    openssl req -new -sha256 -key "$1.key" -subj "$3" -out .csr
    openssl x509 -req -sha256 -in .csr -CA "$2.crt" -CAkey "$2.key" -set_serial "0x$(openssl rand -hex 8)" -extfile .ext -out "$1.crt" -days 365 2>/dev/null
    rm -f .csr .ext
}

serial() { openssl x509 -in "$1.crt" -noout -serial | sed 's/^serial=//'; }

local_names=DNS:localhost,IP:127.0.0.1,IP:::1
named intermediate ca '/O=Kettle Test/CN=Intermediate Authority' '' '' ca
named server-chain intermediate '/O=Kettle Test/CN=Chained' "$local_names" serverAuth
grep -c BEGIN server-chain.crt | grep -qx 1 && cat intermediate.crt >> server-chain.crt
named sni-a ca '/O=Kettle Test/CN=sni-a' "DNS:a.example.org,$local_names" serverAuth
named sni-wild ca '/O=Kettle Test/CN=sni-wild' "DNS:*.example.org,$local_names" serverAuth
named user-uri ca '/O=Kettle Test/CN=uri-user' "URI:urn:kettle:user:alice,URI:urn:kettle:user:second" clientAuth
named revoked-client ca '/O=Kettle Test/CN=Revoked' "$local_names" clientAuth
# The database that openssl's ca and ocsp commands read: one revoked certificate, one good one.
printf 'R\t350101000000Z\t200101000000Z\t%s\tunknown\t/CN=Revoked\nV\t350101000000Z\t\t%s\tunknown\t/CN=localhost\n' \
    "$(serial revoked-client)" "$(serial server)" > .index
if [ ! -s ca.crl ] || [ ca.crl -ot revoked-client.crt ]; then
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=.index\ndefault_md=sha256\n' > .conf
    openssl ca -gencrl -config .conf -cert ca.crt -keyfile ca.key -crldays 3650 -out ca.crl 2>/dev/null
fi
if [ ! -s server.ocsp ] || [ server.ocsp -ot server.crt ]; then
    openssl ocsp -issuer ca.crt -cert server.crt -no_nonce -reqout .req >/dev/null 2>&1
    openssl ocsp -index .index -CA ca.crt -rsigner ca.crt -rkey ca.key -reqin .req -respout server.ocsp -ndays 365 >/dev/null 2>&1
fi
rm -f .index .index.* .conf .req
chmod 600 ./*.key
chmod 644 ./*.crt ca.crl server.ocsp
