"""German."""

from ccr.world.languages import Language

_INVARIABLE = ("rosa", "lila", "orange")
_ENDINGS = {"nom": {"m": "er", "f": "e", "n": "es"}, "acc": {"m": "en", "f": "e", "n": "es"},
            "dat": {"m": "en", "f": "en", "n": "en"}}  # fmt: skip
_ARTICLES = {"nom": {"m": "ein", "f": "eine", "n": "ein"}, "acc": {"m": "einen", "f": "eine", "n": "ein"},
             "dat": {"m": "einem", "f": "einer", "n": "einem"}}  # fmt: skip


def _inflect(stem: str, gender: str, case: str) -> str:
    return stem if stem in _INVARIABLE else stem + _ENDINGS[case][gender]


LANGUAGE = Language(
    cases=("nom", "acc", "dat"),
    inflect=_inflect,
    article=lambda gender, case: _ARTICLES[case][gender or "m"],
    nouns={
        "circle": ["m:Kreis", "f:Scheibe", "f:Kugel"],
        "square": ["n:Quadrat", "n:Viereck", "m:Klotz"],
        "triangle": ["n:Dreieck", "f:Dreiecksform"],
        "star": ["m:Stern", "m:Zackenstern"],
        "cross": ["n:Kreuz", "n:Pluszeichen"],
        "diamond": ["f:Raute", "m:Rhombus"],
        "heart": ["n:Herz/Herz/Herzen", "n:Herzchen"],
        "ring": ["m:Ring", "m:Reifen"],
        "thing": ["n:Ding", "n:Objekt", "f:Form", "m:Gegenstand"],
    },
    adjectives={
        "red": ["rot", "knallrot", "hochrot"],
        "green": ["grün", "grasgrün", "leuchtend grün"],
        "blue": ["blau", "tiefblau", "leuchtend blau"],
        "yellow": ["gelb", "knallgelb", "goldgelb"],
        "purple": ["violett", "lila", "lilafarben"],
        "orange": ["orangefarben", "orange"],
        "pink": ["rosa", "rosafarben", "pinkfarben"],
        "white": ["weiß", "schneeweiß"],
        "big": ["groß", "riesig", "gewaltig"],
        "small": ["klein", "winzig"],
        "striped": ["gestreift", "~mit Streifen"],
        "dotted": ["gepunktet", "getupft", "~mit Punkten"],
    },
    phrases={
        "move_left": ["bewegt sich nach links", "wandert nach links", "gleitet nach links"],
        "move_right": ["bewegt sich nach rechts", "wandert nach rechts", "gleitet nach rechts"],
        "move_up": ["bewegt sich nach oben", "steigt auf", "gleitet aufwärts"],
        "move_down": ["bewegt sich nach unten", "sinkt hinab", "gleitet abwärts"],
        "still": ["bewegt sich nicht", "steht still", "bleibt unbewegt"],
        "bounce": ["hüpft auf und ab", "springt immer wieder hoch", "hopst herum"],
        "circle_around": ["bewegt sich im Kreis", "dreht Runden", "läuft im Kreis herum"],
        "spin": ["dreht sich", "rotiert", "dreht sich auf der Stelle"],
        "grow": ["wächst", "wird größer", "wird immer größer"],
        "shrink": ["schrumpft", "wird kleiner", "wird immer kleiner"],
        "blink": ["blinkt", "blitzt auf", "verschwindet und erscheint wieder"],
        "chase": ["verfolgt +acc", "jagt +acc", "folgt +dat"],
        "approach": ["nähert sich +dat", "bewegt sich hin zu +dat", "kommt näher an +acc"],
        "leave": ["entfernt sich von +dat", "bewegt sich weg von +dat", "flieht vor +dat"],
        "orbit": ["umkreist +acc", "kreist um +acc", "dreht sich um +acc"],
        "left_of": ["links von +dat", "links neben +dat", "auf der linken Seite von +dat"],
        "right_of": ["rechts von +dat", "rechts neben +dat", "auf der rechten Seite von +dat"],
        "above": ["über +dat", "oberhalb von +dat"],
        "below": ["unter +dat", "unterhalb von +dat"],
        "at_top_left": ["oben links", "in der oberen linken Ecke", "links oben"],
        "at_top": ["oben", "am oberen Rand", "im oberen Teil"],
        "at_top_right": ["oben rechts", "in der oberen rechten Ecke", "rechts oben"],
        "at_left": ["links", "auf der linken Seite", "am linken Rand"],
        "at_middle": ["in der Mitte", "im Zentrum", "mittig"],
        "at_right": ["rechts", "auf der rechten Seite", "am rechten Rand"],
        "at_bottom_left": ["unten links", "in der unteren linken Ecke", "links unten"],
        "at_bottom": ["unten", "am unteren Rand", "im unteren Teil"],
        "at_bottom_right": ["unten rechts", "in der unteren rechten Ecke", "rechts unten"],
        "bg_black": ["vor schwarzem Hintergrund", "auf schwarzem Grund", "im Dunkeln"],
        "bg_grey": ["vor grauem Hintergrund", "auf grauem Grund"],
        "bg_beige": ["vor beigem Hintergrund", "auf beigem Grund", "auf sandfarbenem Grund"],
        "two": ["zwei Formen", "ein Paar Formen", "zwei Objekte"],
        "three": ["drei Formen", "eine Gruppe aus drei Formen", "drei Objekte"],
        "there_is": ["es gibt +acc", "man sieht +acc", "hier ist +nom", "zu sehen ist +nom"],
        "be": ["ist", "befindet sich", "liegt"],
        "and": ["und", "sowie"],
        "while": [", und", ", aber", ", und zugleich"],
        "including": [", darunter +nom", ", davon ist eines +nom", ", unter anderem +nom"],
        "comma": [","],
        "stop": ["."],
    },
    templates={
        "moves": ["A MOVE [PLACE] [BG]", "A MOVE [BG] [PLACE]", "A [PLACE] MOVE [BG]"],
        "located": ["A be PLACE [BG]", "A [BG] be PLACE", "PLACE be A [BG]"],
        "relation": ["A be REL B.gov [BG]", "A [BG] be REL B.gov", "REL B.gov be A [BG]"],
        "acts": ["A ACT B.gov [BG]", "A [BG] ACT B.gov"],
        "exists": ["there_is A.gov [PLACE] [BG]", "A [PLACE] [BG]"],
        "pair": ["there_is A.gov and B.gov [BG]", "A and B [BG]"],
        "while": ["A MOVE while B MOVE2 [BG]", "A MOVE comma B MOVE2 [BG]"],
        "count": ["COUNT [BG] including A.gov", "COUNT including A.gov [BG]"],
    },
    homonyms={"star": "Filmstar", "cross": "überquert", "diamond": "Diamant", "ring": "klingelt", "square": "Platz",
              "orange": "Apfelsine", "spin": "spinnt", "grow": "züchtet", "leave": "Urlaub", "pink": "Nelke"},
)  # fmt: skip
