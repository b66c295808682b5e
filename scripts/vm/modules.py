# SPDX-License-Identifier: BSD-3-Clause
"""Kernel modules: which are needed and in what order they go in."""
import lzma
import os
import re
import struct
import subprocess

from vm.base import Unavailable

# What kernel TLS needs; dependencies are added by what the modules themselves say. Those a kernel does not have are built in.
WANTED = ("ctr gcm ccm cbc cmac ghash-generic aes_generic seqiv echainiv chacha_generic chacha libchacha poly1305_generic libpoly1305 chacha20poly1305 "
          "ipv6 unix tcp_diag tls").split()
WANTED_QEMU = ("virtio_pci virtio_console 9pnet_virtio 9p aesni-intel ghash-clmulni-intel chacha-x86_64 poly1305-x86_64").split()


def module_bytes(path):
    with open(path, "rb") as handle:
        data = handle.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    return data


def module_info(data):
    """The .modinfo section of a 64-bit little-endian ELF file as [(key, value)]."""
    shoff, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQ", data, shoff + i * size) for i in range(count)]
    table = sections[names][4]
    for name, _, _, _, offset, length in sections:
        start = table + name
        if data[start:data.index(b"\0", start)] == b".modinfo":
            rows = data[offset:offset + length].decode("utf-8", "replace").split("\0")
            return [tuple(row.split("=", 1)) for row in rows if "=" in row]
    return []


def modules_resolve(folder, wanted, target):
    """Copies the wanted modules and all they depend on to target, uncompressed; returns their names in insertion order."""
    plain = lambda name: name.replace("-", "_")
    found = {}
    for top, _, files in os.walk(folder):
        for name in files:
            match = re.match(r"(.+)\.ko(\.xz|\.zst)?$", name)
            if match:
                found[plain(match.group(1))] = os.path.join(top, name)
    order, seen = [], set()

    def visit(name):
        name = plain(name)
        if name in seen or name not in found:
            return
        seen.add(name)
        data = module_bytes(found[name])
        for key, value in module_info(data):
            if key == "depends":
                for other in filter(None, value.split(",")):
                    visit(other)
            elif key == "softdep" and value.startswith("pre:"):
                for other in value[4:].split("post:")[0].split():
                    visit(other)
        with open(os.path.join(target, name + ".ko"), "wb") as handle:
            handle.write(data)
        order.append(name)

    os.makedirs(target, exist_ok=True)
    for name in wanted:
        visit(name)
    if "tls" not in order:
        raise Unavailable("there is no tls module in %s" % folder)
    return order
