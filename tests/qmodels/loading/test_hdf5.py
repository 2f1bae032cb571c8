"""HDF5 files that libhdf5 itself does not survive, and what one may hold."""

from __future__ import annotations

import base64
import json
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.models import qkeras_model

from qmodels.errors import UserError
from qmodels.loading import load_model
from qmodels.loading.hdf5 import check_content, check_readable
from qmodels.storage import save_model

#: Eight kilobytes that h5py wrote, with one byte changed; compressed.
HANGS = (
    "c-rll%}T>S5XX0uHY~+z1fi`LLrxx~sNls@rLE>5R;&j>q=p)6XqsYEzbHkI`U2u3_y|6NkKo(XB)gkt145~Yp!2&7Gdr10oBwRc"
    "JQ<bkY-TZo0ti7Vq@p+@hN_7^Uq59QGyBNwtHk4}a4pZ`Dyy%_)PG~~!-Hxy$Q~u&`@AUB5(NB5jOx~YV2_y3_4F=@d7bW=<uq<A"
    "yLHj`V!A9%x$ivFYf{%U$YA=;q6J@-bl+yzJ-1syynu0dr5fD>5&EPY6Eha-&4%^bR?qYr*H+K7yY2+_lvq6}jANni`0w!Bk@lZ5"
    "S>LGz=sW1Uao_Q`LrD?y+KKmo@y&hfd$mfSV6M9lS*)MbF)$rF<=QTeJy_v<@)_t&$Mn30Yj!MsQ`76#<(1|3ZPU?LG@YJzete+w"
    "gia85%sc<&^4;T;;V?Rr0-l*&FRpDASI779FbB^90000000000004dpjMDU*A9H`1S_uo^?O$0L<-<$owIw!^(NK<{+&x=QBNDDl"
    "5-mvBL{i3nB8m+jB5r^6|47cAq5&!Z0002|VLkzB9dBp"
)
CRASHES = (
    "c-rll%}T>S5XX0uHiTj|g3#8BAtw(~RPf@d(pGa2E7pS`QbUb3G)=LoUzDOpeFGoCNAMAR1Rup)-DG#uY(SBU2s*#ZFtd}{wE545"
    "%!66k%x2~@C_q(F3TY_Lh@t7C&)1Kc#mwF_`y}yrDqPF6xW?-1GWDNXe1ET64YEfG_&$#cwJHMsBW87DH?RlH=X!dP#Jo=T#C983"
    "w$nQ6`!QXXCfs+H={2eADP%HzXVDx{CEd5#^-i5u5HGyp@JcPZ2UX~ka!kxvs5c$fYui1`Z(Q0v-|2cmJ^Xn+C00)g<5=iB{yRuJ"
    "(*9Gv)^}O~`VRVT+;{x#P*TLacH%u?eskaYPOTCsnCtFU7V9T<3{1vWxwegC4^}vz2m_<(TE5@#td4E0>qgx^zp%Z&W4XqXZqW0N"
    "#0LgX=mc@sx*;bQaSxA%!{|(k&MCrbab>NzJid>+8F&@|00000000000Ps^_l&0VOnEQ*=N?7=A|H#THA6`1EFR+n}j&dr>-LmyG"
    "Qp0sgq6Jkpk(4n>M6tm`#PzTKAIZ5>G(ZIa004kL%sbV9Z_f"
)


def damaged(folder: Path, text: str, name: str = "own.h5") -> Path:
    path = folder / name
    path.write_bytes(zlib.decompress(base64.b85decode(text)))
    return path


@pytest.mark.parametrize(("text", "told"), [(HANGS, "never ends"), (CRASHES, "crashes")])
def test_a_file_that_libhdf5_does_not_survive(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"own.h5: not a readable .h5 model .*HDF5's own library {told} on it"):
        load_model(damaged(tmp_path, text))


def test_weights_that_libhdf5_does_not_survive(tmp_path: Path) -> None:
    model = qkeras_model()
    (tmp_path / "own.json").write_text(model.to_json())
    damaged(tmp_path, CRASHES, "own.weights.h5")
    with pytest.raises(UserError, match=r"own.weights.h5: does not contain the weights of .*: the file is damaged"):
        load_model(tmp_path / "own.json")
    save_model(model, tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.weights.h5"] = zlib.decompress(base64.b85decode(CRASHES))
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"own.keras: cannot be loaded .*: the file is damaged: HDF5's own library"):
        load_model(tmp_path / "own.keras")


def test_weights_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path) -> None:
    save_model(qkeras_model(), tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != "model.weights.h5"}
    with zipfile.ZipFile(tmp_path / "own.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("model.weights.h5", bytes(40 << 20))
    with pytest.raises(UserError, match=r"model.weights.h5 unpacks to 41943040 bytes; at most 167\d+ are read"):
        load_model(tmp_path / "own.keras")


def file_with(**datasets: Any) -> h5py.File:
    file = h5py.File(BytesIO(), "w")
    for name, settings in datasets.items():
        file.create_dataset(name, **settings)
    return file


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shape": (10**6, 10**6), "dtype": "f4", "chunks": True}, "at most 1600000000 bytes of numbers are read"),
        ({"shape": (30_000, 30_000), "dtype": "f8", "chunks": True}, "at most 1600000000 bytes"),
        ({"shape": (3,), "dtype": "S100000000"}, r"/a contains \|S100000000, no numbers"),
        ({"data": ["text"]}, "/a contains object, no numbers"),
    ],
)
def test_what_is_too_large_or_no_number(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_content(file_with(a=settings))


def test_links_and_circles() -> None:
    file = file_with(a={"data": np.zeros(3)})
    check_content(file)
    file["b"] = h5py.SoftLink("/a")
    with pytest.raises(ValueError, match="//b is a link"):
        check_content(file)
    del file["b"]
    file["b"] = file["a"]
    with pytest.raises(ValueError, match="//b is elsewhere in the file too"):
        check_content(file)
    del file["b"]
    file.create_group("g")["up"] = file
    with pytest.raises(ValueError, match="/g/up is elsewhere"):
        check_content(file)


def test_every_good_file_is_readable(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = json.dumps({"a": 1})
        file.create_dataset("g/packed", data=np.zeros((300, 300)), chunks=(100, 100), compression="gzip")
        file.create_dataset("g/flat", data=np.arange(3))
        file.create_dataset("g/empty", shape=None, dtype="f4")
        file.create_dataset("one", data=1.0)
    check_readable(tmp_path / "a.h5")
