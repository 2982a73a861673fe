package ovf

import "fmt"

// Role is what a machine is made for.
type Role string

// The machines there are: two of a zone, and a portal of one's own.
const (
	Controller Role = "controller"
	Router     Role = "router"
	Portal     Role = "portal"
)

// Properties are the values that an appliance of the given role reads at its first start. Every one may stay empty:
// then the address comes by DHCP and the rest is set on the console.
//
// Token and password hash are marked as passwords, so that importers neither echo them nor list them afterwards. The
// hash is not the password, but who reads it can guess passwords at leisure, and whoever can set it owns the machine.
func Properties(role Role) []Property {
	var (
		general = Text{"General", "Общие"}
		net     = Text{"Network", "Сеть"}
		zone    = Text{"Zone", "Зона"}
		access  = Text{"Access", "Доступ"}
	)
	str := func(key, qualifiers string, c, label, description Text) Property {
		return Property{
			Key: key, Type: "string", Qualifiers: qualifiers, Category: c, Label: label, Description: description,
			UserConfigurable: true,
		}
	}
	secret := func(p Property) Property {
		p.Password = true
		return p
	}
	mode := str("eth0_mode", `ValueMap{"dhcp","static"}`, net,
		Text{"eth0: address mode", "eth0: способ получения адреса"},
		Text{"How eth0 (master) gets its address: dhcp or static.", "Как eth0 (основной) получает адрес: dhcp или static (вручную)."})
	mode.Default = "dhcp"
	list := []Property{
		str("hostname", "MaxLen(253)", general,
			Text{"Host name", "Имя узла"},
			Text{"Fully qualified name of the machine. Empty: taken from DHCP, or proposed by the appliance.",
				"Полное имя машины. Пусто: из DHCP или предложенное системой."}),
		mode,
		str("eth0_address", "MaxLen(64)", net,
			Text{"eth0: address", "eth0: адрес"},
			Text{"IP address with prefix length, as 192.0.2.10/24. Used when the mode is static.",
				"IP-адрес с длиной префикса, например 192.0.2.10/24. Используется в режиме static."}),
		str("eth0_gateway", "MaxLen(45)", net,
			Text{"eth0: gateway", "eth0: шлюз"},
			Text{"Default gateway. Used when the mode is static.", "Шлюз по умолчанию. Используется в режиме static."}),
		str("eth0_0_address", "MaxLen(64)", net,
			Text{"eth0:0: address", "eth0:0: адрес"},
			Text{"Second address (slave) for the multimedia router, with prefix length. Empty: one address for both.",
				"Второй адрес (дополнительный) для мультимедийного маршрутизатора с длиной префикса. Пусто: один адрес на двоих."}),
		str("dns", "MaxLen(255)", net,
			Text{"DNS servers", "Серверы DNS"},
			Text{"Addresses, separated by commas.", "Адреса через запятую."}),
		str("ntp", "MaxLen(255)", net,
			Text{"NTP servers", "Серверы NTP"},
			Text{"Names or addresses, separated by commas.", "Имена или адреса через запятую."}),
		str("proxy", "MaxLen(255)", net,
			Text{"Outbound proxy", "Прокси для исходящих соединений"},
			Text{"As http://proxy.example.com:3128. Empty: none.", "Например, http://proxy.example.com:3128. Пусто: без прокси."}),
	}
	values := fmt.Sprintf(`ValueMap{"%s","%s"}`, Controller, Router)
	if role == Portal { // it can be nothing else
		zone, values = general, fmt.Sprintf(`ValueMap{"%s"}`, Portal)
	} else {
		list = append(list, secret(str("token", "MaxLen(4096)", zone,
			Text{"Token", "Токен"},
			Text{"The token from the portal's Meeting Connector page.", "Токен со страницы коннектора конференций на портале."})))
	}
	list = append(list, Property{
		Key: "role", Type: "string", Qualifiers: values, Category: zone,
		Label:       Text{"Role", "Роль"},
		Description: Text{"What this machine runs.", "Что работает на этой машине."},
		Default:     string(role),
	})
	if role != Portal {
		list = append(list, str("peer", "MaxLen(64)", zone, peerLabel[role], peerDescription[role]))
	}
	return append(list,
		secret(str("admin_password_hash", "MaxLen(255)", access,
			Text{"Password hash of admin", "Хеш пароля пользователя admin"},
			Text{"Argon2id hash in PHC form ($argon2id$...), not the password. Empty: a random password is shown on the console.",
				"Хеш Argon2id в формате PHC ($argon2id$...), не сам пароль. Пусто: случайный пароль показывается на консоли."})))
}

var (
	peerLabel = map[Role]Text{
		Controller: {"Zone controller's other IPv4 address", "Другой адрес IPv4 контроллера зоны"},
		Router:     {"Zone controller's IPv4 address", "Адрес IPv4 контроллера зоны"},
	}
	peerDescription = map[Role]Text{
		Controller: {"Address of the second zone controller for high availability. Empty: none.",
			"Адрес второго контроллера зоны для отказоустойчивости. Пусто: нет."},
		Router: {"Address of a zone controller that this multimedia router joins.",
			"Адрес контроллера зоны, к которому присоединяется этот мультимедийный маршрутизатор."},
	}
)
