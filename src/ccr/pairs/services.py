"""Languages of the online services of the engine deep_translator."""

from ccr import languages
from ccr.errors import CcrError

# in the services' own codes; from a service's manual where the list of the library deep-translator is outdated
_CODES = {
    "google": (
        "af sq am ar hy as ay az bm eu be bn bho bs bg ca ceb ny zh-CN zh-TW co hr cs da dv doi nl en eo et ee tl "
        "fi fr fy gl ka de el gn gu ht ha haw iw hi hmn hu is ig ilo id ga it ja jw kn kk km rw gom ko kri ku ckb "
        "ky lo la lv ln lt lg lb mk mai mg ms ml mt mi mr mni-Mtei lus mn my ne no or om ps fa pl pt pa qu ro ru sm "
        "sa gd nso sr st sn sd si sk sl so es su sw sv tg ta tt te th ti ts tr tk ak uk ur ug uz vi cy xh yi yo zu"
    ),
    # CLDR considers Egypt the likely region of Arabic; here ar-EG is the dialect, and left out
    "mymemory": (
        "ace-ID af-ZA ak-GH sq-AL am-ET aig-AG ar-SA an-ES hy-AM as-IN ast-ES de-AT awa-IN quy-PE az-AZ bah-BS "
        "bjs-BB ban-ID rm-RO bm-ML bjn-ID ba-RU eu-ES be-BY fr-BE bem-ZM bn-IN bho-IN bh-IN bi-VU gax-KE bs-BA "
        "bs-Cyrl-BA br-FR bug-ID bg-BG my-MM ca-ES cav-ES ceb-PH tzm-MA ayr-BO knc-NG shu-TD ch-GU chr-US hne-IN "
        "zh-CN zh-HK zh-TW zh-MO ctg-BD cjk-AO grc-GR zdj-KM cop-EG crh-RU pov-GW hr-HR cs-CZ da-DK prs-AF diq-TR "
        "nl-NL dyu-CI dz-BT ydd-US vmw-MZ en-GB en-AU en-CA en-IN en-IE en-NZ en-SG en-ZA en-US eo-EU et-EE ee-GH "
        "fn-FNG fo-FO fj-FJ fil-PH fi-FI nl-BE fon-BJ fr-FR fr-CA fr-CH fur-IT ff-FUL gl-ES mfi-NG grt-IN ka-GE "
        "de-DE gil-KI glw-NG el-GR gcl-GD gn-PY gu-IN gyn-GY ht-HT khk-MN ha-NE haw-US he-IL hig-NG hil-PH mrj-RU "
        "hi-IN hmn-CN hu-HU is-IS ibo-NG ig-NG ilo-PH id-ID kl-GL ga-IE it-IT it-CH jam-JM ja-JP jv-ID kac-MM "
        "quc-GT kbp-TG kea-CV kab-DZ kln-KE kam-KE kn-IN kr-KAU kar-MM ks-IN kas-IN kk-KZ kha-IN km-KH kik-KE ki-KE "
        "kmb-AO rw-RW rn-BI guz-KE kg-CG kok-IN ko-KR kmr-TR ckb-IQ ky-KG lo-LA ltg-LV la-XN lv-LV lij-IT li-NL "
        "ln-LIN lt-LT lmo-IT lua-CD lg-UG luy-KE luo-KE lb-LU mas-KE mk-MK mag-IN mai-IN mg-MG ms-MY ml-IN dv-MV "
        "mt-MT mfi-CM mni-IN gv-IM mi-NZ mr-IN mrt-NG mhr-RU mh-MH men-SL mer-KE nyf-KE min-ID lus-IN mn-MN sr-ME "
        "mfe-MU ar-MA mos-BF ndc-MZ nr-ZA ne-NP fuv-NG niu-NU azj-AZ nso-ZA uzn-UZ nb-NO nn-NO nus-SS ny-MW oc-FR "
        "oc-ES or-IN ory-IN ur-PK pau-PW pi-IN pag-PH pap-CW ps-PK fa-IR pis-SB plt-MG pl-PL pt-PT pt-BR pot-US "
        "pa-IN pnb-PK qu-PE rhg-MM rhl-MM ro-RO roh-CH run-BI ru-RU acf-LC sm-WS sg-CF sa-IN sat-IN sc-IT gd-GB "
        "seh-ZW sr-Cyrl-RS sr-Latn-RS crs-SC tn-ZA shn-MM sn-ZW scn-IT szl-PL snd-PK sd-PK si-LK sk-SK sl-SI so-SO "
        "st-LS azb-AZ pbt-PK dik-SS es-ES es-AR es-CO es-419 es-MX es-US srn-SR lvs-LV zsm-MY su-ID sw-KE ss-SZ "
        "sv-SE de-CH syc-TR tl-PH ty-PF tg-TJ tmh-DZ taq-ML ta-IN ta-LK trv-TW tt-RU te-IN tet-TL th-TH bo-CN ti-ET "
        "tpi-PG tkl-TK to-TO als-AL ts-ZA tsc-MZ tn-BW tum-MW tr-TR tk-TM tvl-TV tw-GH udm-RU uk-UA ppk-ID umb-AO "
        "uig-CN ug-CN uz-UZ vec-IT vi-VN svc-VC vic-US wls-WF war-PH cy-GB gaz-ET pes-IR wo-SN xh-ZA yi-YD yo-NG "
        "zu-ZA"
    ),
    "libretranslate": (
        "ar az bg bn ca cs da de el en eo es et eu fa fi fr ga gl he hi hu id it ja ko ky lt lv ms nb nl pl pt ro "
        "ru sk sl sq sr sv th tl tr uk ur vi zh zt"
    ),
    "deepl": ("AR BG CS DA DE EL EN ES ET FI FR HE HU ID IT JA KO LT LV NB NL PL PT RO RU SK SL SV TH TR UK VI ZH"),
    "microsoft": (
        "af am ar as az ba bg bho bn bo brx bs ca cs cy da de doi dsb dv el en es et eu fa fi fil fj fo fr ga gl "
        "gom gu ha he hi hne hr hsb ht hu hy id ig is it iu ja ka kk km kmr kn ko ks ku ky ln lo lt lug lv lzh mai "
        "mg mi mk ml mn-Cyrl mn-Mong mni mr ms mt my nb ne nl nso nya or pa pl prs ps pt pt-PT ro ru run rw sd si "
        "sk sl sm sn so sq sr-Cyrl sr-Latn st sv sw ta te th ti tk tlh-Latn tn to tr tt ty ug uk ur uz vi xh yo yua "
        "yue zh-Hans zh-Hant zu"
    ),
}
TAGS = {"zt": "zh-Hant"}  # codes that services use instead of a language's tag
CODES = {service: codes.split() for service, codes in _CODES.items()}


def codes(name: str, source: str, target: str, where: str) -> tuple[str, str]:
    """A language pair in the codes of a service; `CcrError`, naming the services that have it, if this one does not."""
    if pair := _pair(name, source, target):
        return pair
    others = serving(source, target)
    raise CcrError(
        f"{where}: {name} does not translate from {source!r} to {target!r}. "
        + (f"Services that do: {', '.join(others)}." if others else "No other service does; take another engine.")
    )


def serving(source: str, target: str) -> list[str]:
    """The services that have a language pair."""
    return [name for name in CODES if _pair(name, source, target)]


def _pair(name: str, source: str, target: str) -> tuple[str, str] | None:
    tags = {TAGS.get(code, code): code for code in CODES[name]}
    pair = tuple(tags.get(languages.served(lang, tags)) for lang in (source, target))
    return pair if all(pair) and pair[0] != pair[1] else None
