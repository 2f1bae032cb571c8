"""HDF5 files that libhdf5 does not survive."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

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


def content_of(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def damaged(folder: Path, text: str, name: str = "own.h5") -> Path:
    path = folder / name
    path.write_bytes(content_of(text))
    return path
