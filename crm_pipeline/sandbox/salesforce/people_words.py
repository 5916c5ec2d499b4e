"""The words the seeded people are made of: names, places and companies of twelve languages.

Belongs here: constant words. Does not belong here: choosing among them (people_cast.py).
Every mail address made from them ends in `.example`, which no one can own.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A city with its state, a postal code that exists there, and its country."""

    city: str
    state: str | None
    postal_code: str
    country: str


@dataclass(frozen=True, slots=True)
class Language:
    """How people of one language are called and where they live.

    A name that Latin letters cannot spell carries its romanised form after a `|`, for the
    mail address. `street` takes a number (`{n}`) and a street name (`{s}`).
    """

    weight: int
    dialling_code: str
    street: str
    streets: tuple[str, ...]
    places: tuple[Place, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _places(country: str, lines: str) -> tuple[Place, ...]:
    found = []
    for line in lines.split(";"):
        city, state, code = (one.strip() for one in line.split(","))
        found.append(Place(city, state or None, code, country))
    return tuple(found)


LANGUAGES = (
    Language(
        34,
        "+1 555",
        "{n} {s}",
        ("Main Street", "Oak Avenue", "Market Street", "5th Avenue", "Lake Shore Drive"),
        _places(
            "United States",
            "San Francisco,CA,94105; Boston,MA,02110; New York,NY,10018; Chicago,IL,60601; "
            "Austin,TX,78701; Newark,NJ,07102; Seattle,WA,98101; San Juan,PR,00901",
        ),
        _words(
            "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William "
            "Barbara Aisha Joseph Keisha Thomas Sarah Charles Karen Priya Daniel Latoya"
        ),
        _words(
            "Smith Johnson Williams Brown Jones Garcia Miller Davis Wilson Anderson Taylor "
            "Moore Jackson Lee Thompson White Harris Clark Lewis Robinson O'Brien McDonald"
        ),
    ),
    Language(
        10,
        "+44 20",
        "{n} {s}",
        ("High Street", "Station Road", "Church Lane", "Victoria Road", "King's Row"),
        _places(
            "United Kingdom",
            "London,,EC1A 1BB; Manchester,,M1 1AE; Edinburgh,Scotland,EH1 1YZ; "
            "Cardiff,Wales,CF10 1DD; Leeds,West Yorkshire,LS1 4AP",
        ),
        _words("Oliver Amelia George Isla Harry Poppy Noah Freya Rhys Niamh Mohammed Zara"),
        _words("Evans Walker Wright Hughes Green Hall Patel Khan Lloyd-Jones Clarke Singh"),
    ),
    Language(
        16,
        "+49 30",
        "{s} {n}",
        ("Hauptstraße", "Bahnhofstraße", "Gartenweg", "Am Mühlbach", "Königsallee"),
        _places(
            "Germany",
            "Berlin,Berlin,10115; München,Bayern,80331; Köln,Nordrhein-Westfalen,50667; "
            "Dresden,Sachsen,01067; Lübeck,Schleswig-Holstein,23552",
        ),
        _words("Jürgen Anna Björn Käthe Stefan Sabine Günther Lena Matthias Heike Uwe Elif"),
        _words("Müller Schmidt Schröder Weiß Köhler Fischer Jäger Großmann Becker Yılmaz Strauß"),
    ),
    Language(
        10,
        "+33 1",
        "{n} {s}",
        ("rue de la Paix", "avenue des Champs", "boulevard Voltaire", "place de l'Église"),
        _places(
            "France",
            "Paris,Île-de-France,75002; Lyon,,69002; Marseille,,13001; Nice,,06000; "
            "Besançon,,25000",
        ),
        _words("Amélie François Chloé Rémi Noémie Benoît Inès Loïc Zoé Jérôme Maëlle Étienne"),
        _words("Lefèvre Dubois Moreau d'Artagnan Girard Béranger N'Diaye Garnier Français"),
    ),
    Language(
        8,
        "+34 91",
        "{s} {n}",
        ("Calle Mayor", "Avenida de la Constitución", "Paseo de Gracia", "Plaza España"),
        _places(
            "Spain",
            "Madrid,Madrid,28013; Barcelona,Cataluña,08007; A Coruña,Galicia,15001; "
            "Sevilla,Andalucía,41004",
        ),
        _words("José María Íñigo Lucía Ángel Begoña Álvaro Nuria Joaquín Pilar Martín"),
        _words("García-López Fernández Muñoz Núñez Sánchez Ibáñez Peña Rodríguez Gómez"),
    ),
    Language(
        6,
        "+55 11",
        "{s}, {n}",
        ("Rua Augusta", "Avenida Paulista", "Rua São João", "Travessa do Comércio"),
        _places(
            "Brazil",
            "São Paulo,SP,01310-100; Rio de Janeiro,RJ,20040-002; Brasília,DF,70040-010; "
            "Florianópolis,SC,88010-400",
        ),
        _words("João Luíza Antônio Beatriz Caio Conceição Gustavo Iara Rodrigo Thaís"),
        _words("Silva Araújo Gonçalves Conceição Magalhães Simões Oliveira Assunção"),
    ),
    Language(
        4,
        "+48 22",
        "ul. {s} {n}",
        ("Długa", "Świętokrzyska", "Piotrkowska", "Żeromskiego"),
        _places("Poland", "Warszawa,,00-042; Łódź,,90-001; Kraków,,31-001; Gdańsk,,80-831"),
        _words("Łukasz Małgorzata Paweł Agnieszka Michał Żaneta Wojciech Elżbieta"),
        _words("Kowalski Wójcik Wiśniewska Zieliński Dąbrowska Łuczak Szczęsny"),
    ),
    Language(
        3,
        "+90 212",
        "{s} No: {n}",
        ("İstiklal Caddesi", "Atatürk Bulvarı", "Bağdat Caddesi"),
        _places("Türkiye", "İstanbul,,34430; Ankara,,06100; İzmir,,35210"),
        _words("Işıl Çağlar Gülşah Ömer İpek Şükrü Ayşe Tuğba"),
        _words("Yıldız Öztürk Şahin Çelik Doğan Güneş Aydın"),
    ),
    Language(
        4,
        "+81 3",
        "{s}{n}番",
        ("丸の内1丁目", "銀座4丁目", "西新宿2丁目"),
        _places("日本", "千代田区,東京都,100-0005; 大阪市,大阪府,530-0001; 札幌市,北海道,060-0001"),
        _words("太郎|taro 花子|hanako 翔太|shota 美咲|misaki 健一|kenichi 陽子|yoko"),
        _words("山田|yamada 佐藤|sato 鈴木|suzuki 髙橋|takahashi 渡邉|watanabe"),
    ),
    Language(
        3,
        "+971 4",
        "{s} {n}",
        ("شارع الشيخ زايد", "شارع الكورنيش"),
        _places("الإمارات", "دبي,,00000; أبو ظبي,,00000"),
        _words("محمد|mohammed فاطمة|fatima أحمد|ahmed ليلى|layla يوسف|youssef"),
        _words("العلي|alali حداد|haddad منصور|mansour الخطيب|alkhatib"),
    ),
    Language(
        1,
        "+972 3",
        "{s} {n}",
        ("רחוב הרצל", "שדרות רוטשילד"),
        _places("ישראל", "תל אביב,,6688101; חיפה,,3303101"),
        _words("נועה|noa דוד|david שירה|shira יונתן|yonatan"),
        _words("כהן|cohen לוי|levi מזרחי|mizrahi"),
    ),
    Language(
        1,
        "+30 21",
        "{s} {n}",
        ("Ερμού", "Λεωφόρος Συγγρού"),
        _places("Ελλάδα", "Αθήνα,,105 63; Θεσσαλονίκη,,546 24"),
        _words("Γιώργος|giorgos Ελένη|eleni Νίκος|nikos Σοφία|sofia"),
        _words("Παπαδόπουλος|papadopoulos Νικολάου|nikolaou Γεωργίου|georgiou"),
    ),
)

COMPANY_STEMS = _words(
    "Northwind Nordlicht Bluepeak Helios Meridian Quantum Pinecrest Alder Larkspur Vertex "
    "Cascade Solstice Harbor Ironwood Zephyr Cobalt Beacon Orchard Summit Redwood Fjord Aurora "
    "Kestrel Lumen Monarch Nimbus Onyx Palisade Rivermark Sterling Tidewater Umbra Vanguard "
    "Willow Yarrow Atlas Brightwater Copperfield Driftwood Everglade Falkenstein Granit Hofmann "
    "Intervall Juniper Lavande Miramar Novella Oberland Prisma Quercus Rosenthal Sonnenhof"
)
COMPANY_TRADES = (
    ("Logistics", "Transportation"),
    ("Software", "Technology"),
    ("Pharma", "Biotechnology"),
    ("Bank", "Banking"),
    ("Insurance", "Insurance"),
    ("Foods", "Food & Beverage"),
    ("Energy", "Energy"),
    ("Media", "Media"),
    ("Consulting", "Consulting"),
    ("Maschinenbau", "Machinery"),
    ("Health", "Healthcare"),
    ("Academy", "Education"),
    ("Retail", "Retail"),
    ("Textil", "Apparel"),
    ("Telecom", "Telecommunications"),
    ("Bau", "Construction"),
)
COMPANY_FORMS = ("Inc.", "LLC", "GmbH", "AG", "S.A.", "Ltd", "S.r.l.", "& Co. KG", "SE", "")
TITLES = (
    "Chief Executive Officer",
    "VP Marketing",
    "Head of Procurement",
    "IT Manager",
    "Einkaufsleiterin",
    "Directeur commercial",
    "Responsable de compras",
    "Marketing Manager",
    "Data Engineer",
    "CFO",
    "Geschäftsführer",
    "Account Manager",
    "Research Assistant",
    "Owner",
)
NEEDS = (
    "Wants a quote for {n} seats before the end of the quarter.",
    "Met at the fair; asked for a call about the {w} rollout.",
    "Downloaded the white paper on {w}; no budget until next year.",
    "Interessiert sich für {w}, Rückruf nach den Ferien.",
    "Souhaite une démonstration pour {n} personnes.",
    "Comparing us with two others, decision by {w} committee.",
    "Was a customer {n} months ago; left because of the price.",
    "Solicita información sobre {w} y formación para {n} usuarios.",
)
TOPICS = _words("analytics onboarding billing migration security reporting training integration")
CASE_SUBJECTS = (
    "Cannot log in after the password was reset",
    "Invoice {n} shows the wrong VAT rate",
    "Export stops at row {n}",
    "Frage zur Lizenz: {n} Plätze",
    "Feature request: {w} by region",
    "Slow {w} since Monday",
)
