# SPDX-License-Identifier: BSD-3-Clause
"""What QEMU boots: the kernel proper out of its compressed image, and an initial RAM disk."""
import bz2
import lzma
import shutil
import stat
import struct
import subprocess
import zlib


def zstd_decompress(data):
    if not shutil.which("zstd"):
        return None
    return subprocess.run(["zstd", "-dcq"], input=data, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


# How the payload begins, and what unpacks it.
COMPRESSIONS = (
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x28\xb5\x2f\xfd", zstd_decompress),
)


def vmlinux(image):
    """The ELF file inside a bzImage (the kernel's Documentation/arch/x86/boot.rst), None if it is in no form known here. It starts
    sooner: the kernel's own decompressor is slow where the processor is emulated."""
    if image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        return None
    sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start:start + length]
    for magic, decompress in COMPRESSIONS:
        if payload.startswith(magic):
            try:
                # Its last four bytes are the unpacked size (gzip has them in its own format, and does not miss them).
                data = decompress(payload[:-4])
            except (OSError, EOFError, lzma.LZMAError, zlib.error, subprocess.CalledProcessError):
                return None
            return data if data and data.startswith(b"\x7fELF") else None
    return None


class Initrd:
    """A cpio archive of the form newc (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.parts, self.count = [], 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        path = name.encode() + b"\0"
        self.count += 1
        fields = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0) + device + (len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + path, data):
            self.parts += [part, b"\0" * (-len(part) % 4)]

    def folder(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.add(name, stat.S_IFREG | mode, data)

    def device(self, name, major, minor):
        self.add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def write(self, path):
        self.add("TRAILER!!!", 0)
        with open(path, "wb") as handle:
            handle.write(b"".join(self.parts))
