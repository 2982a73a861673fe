package ovf

import (
	"encoding/xml"
	"fmt"
	"strconv"
)

// The types below are the descriptor's elements in the order the schema wants. Prefixes stand in the names: encoding/xml
// would declare namespaces on every element. An element without a prefix is in the envelope's namespace.

type envelope struct {
	XMLName     xml.Name    `xml:"Envelope"`
	NS          string      `xml:"xmlns,attr"`
	OVF         string      `xml:"xmlns:ovf,attr"`
	RASD        string      `xml:"xmlns:rasd,attr"`
	VSSD        string      `xml:"xmlns:vssd,attr"`
	VMW         string      `xml:"xmlns:vmw,attr"`
	Lang        string      `xml:"xml:lang,attr"`
	Files       []file      `xml:"References>File"`
	DiskSection diskSection `xml:"DiskSection"`
	Network     netSection  `xml:"NetworkSection"`
	System      system      `xml:"VirtualSystem"`
	Strings     *bundle     `xml:"Strings"`
}

type file struct {
	Href string `xml:"ovf:href,attr"`
	ID   string `xml:"ovf:id,attr"`
	Size int64  `xml:"ovf:size,attr"`
}

type diskSection struct {
	Info string   `xml:"Info"`
	Disk diskDesc `xml:"Disk"`
}

type diskDesc struct {
	Capacity  int64  `xml:"ovf:capacity,attr"`
	Units     string `xml:"ovf:capacityAllocationUnits,attr"`
	ID        string `xml:"ovf:diskId,attr"`
	FileRef   string `xml:"ovf:fileRef,attr"`
	Format    string `xml:"ovf:format,attr"`
	Populated int64  `xml:"ovf:populatedSize,attr,omitempty"`
}

type netSection struct {
	Info    string  `xml:"Info"`
	Network network `xml:"Network"`
}

type network struct {
	Name        string `xml:"ovf:name,attr"`
	Description string `xml:"Description"`
}

type system struct {
	ID         string      `xml:"ovf:id,attr"`
	Info       string      `xml:"Info"`
	Name       string      `xml:"Name"`
	OS         osSection   `xml:"OperatingSystemSection"`
	Hardware   hwSection   `xml:"VirtualHardwareSection"`
	Annotation *annotation `xml:"AnnotationSection"`
	Product    product     `xml:"ProductSection"`
	EULA       []eula      `xml:"EulaSection"`
}

type osSection struct {
	ID          int    `xml:"ovf:id,attr"`
	Type        string `xml:"vmw:osType,attr"`
	Info        string `xml:"Info"`
	Description string `xml:"Description"`
}

type hwSection struct {
	Transport string   `xml:"ovf:transport,attr"`
	Info      string   `xml:"Info"`
	System    vssd     `xml:"System"`
	Items     []item   `xml:"Item"`
	Config    []config `xml:"vmw:Config"`
}

type vssd struct {
	ElementName string `xml:"vssd:ElementName"`
	InstanceID  int    `xml:"vssd:InstanceID"`
	Identifier  string `xml:"vssd:VirtualSystemIdentifier"`
	Type        string `xml:"vssd:VirtualSystemType"`
}

type config struct {
	Required bool   `xml:"ovf:required,attr"`
	Key      string `xml:"vmw:key,attr"`
	Value    string `xml:"vmw:value,attr"`
}

// item is CIM_ResourceAllocationSettingData, whose elements are in alphabetical order.
type item struct {
	Required        string `xml:"ovf:required,attr,omitempty"`
	Address         string `xml:"rasd:Address,omitempty"`
	AddressOnParent string `xml:"rasd:AddressOnParent,omitempty"`
	Units           string `xml:"rasd:AllocationUnits,omitempty"`
	Automatic       string `xml:"rasd:AutomaticAllocation,omitempty"`
	Connection      string `xml:"rasd:Connection,omitempty"`
	Description     string `xml:"rasd:Description,omitempty"`
	ElementName     string `xml:"rasd:ElementName"`
	HostResource    string `xml:"rasd:HostResource,omitempty"`
	InstanceID      string `xml:"rasd:InstanceID"`
	Parent          string `xml:"rasd:Parent,omitempty"`
	SubType         string `xml:"rasd:ResourceSubType,omitempty"`
	Type            int    `xml:"rasd:ResourceType"`
	Quantity        int64  `xml:"rasd:VirtualQuantity,omitempty"`
}

type msg struct {
	ID   string `xml:"ovf:msgid,attr,omitempty"`
	Text string `xml:",chardata"`
}

type annotation struct {
	Info       string `xml:"Info"`
	Annotation msg    `xml:"Annotation"`
}

type eula struct {
	Info    string `xml:"Info"`
	License string `xml:"License"`
}

type product struct {
	Info        string `xml:"Info"`
	Product     string `xml:"Product"`
	Vendor      string `xml:"Vendor"`
	Version     string `xml:"Version"`
	FullVersion string `xml:"FullVersion"`
	URL         string `xml:"ProductUrl,omitempty"`
	Properties  []any
}

type category struct {
	XMLName xml.Name `xml:"Category"`
	msg
}

type property struct {
	XMLName      xml.Name `xml:"Property"`
	Key          string   `xml:"ovf:key,attr"`
	Type         string   `xml:"ovf:type,attr"`
	Qualifiers   string   `xml:"ovf:qualifiers,attr,omitempty"`
	Configurable bool     `xml:"ovf:userConfigurable,attr"`
	Default      string   `xml:"ovf:value,attr,omitempty"`
	Password     bool     `xml:"ovf:password,attr,omitempty"`
	Label        msg      `xml:"Label"`
	Description  *msg     `xml:"Description"`
}

type bundle struct {
	Lang string `xml:"xml:lang,attr"`
	Msgs []bundleMsg
}

type bundleMsg struct {
	XMLName xml.Name `xml:"Msg"`
	ID      string   `xml:"ovf:msgid,attr"`
	Text    string   `xml:",chardata"`
}

// say returns t as an element and puts its Russian text into the bundle.
func (b *bundle) say(id string, t Text) msg {
	if t.RU == "" {
		return msg{Text: t.EN}
	}
	b.Msgs = append(b.Msgs, bundleMsg{ID: id, Text: t.RU})
	return msg{ID: id, Text: t.EN}
}

const (
	fileID = "file1"
	diskID = "vmdisk1"
)

func (s *Spec) envelope() envelope {
	russian := &bundle{Lang: "ru-RU"}
	e := envelope{
		NS: nsEnvelope, OVF: nsEnvelope, RASD: nsRASD, VSSD: nsVSSD, VMW: nsVMware, Lang: "en-US",
		Files: []file{{Href: s.Disk.File, ID: fileID, Size: s.Disk.Size}},
		DiskSection: diskSection{"Virtual disks", diskDesc{
			Capacity: s.Disk.CapacityMiB, Units: unitMiB, ID: diskID, FileRef: fileID,
			Format: formatStreamOptimized, Populated: s.Disk.Populated,
		}},
		Network: netSection{"Logical networks", network{s.Network, "The network that participants and administrators reach"}},
		System: system{
			ID: s.ID, Info: "A virtual machine", Name: s.Name,
			OS: osSection{osID, osType, "The kind of guest operating system", "Other 4.x or later Linux (64-bit)"},
			Hardware: hwSection{
				Transport: transport,
				Info:      "Virtual hardware requirements",
				System:    vssd{"Virtual Hardware Family", 0, s.ID, hardware},
				Items:     s.items(),
				Config:    []config{{Key: "firmware", Value: string(s.Firmware)}},
			},
			Product: product{
				Info: "Information about the installed software", Product: s.Product, Vendor: s.Vendor,
				Version: s.Version, FullVersion: s.FullVersion, URL: s.ProductURL,
			},
		},
	}
	if s.Annotation.EN != "" {
		e.System.Annotation = &annotation{"A description of the machine", russian.say("annotation", s.Annotation)}
	}
	for _, text := range s.EULA {
		e.System.EULA = append(e.System.EULA, eula{"End-user licence agreement", text})
	}
	var last Text
	for _, p := range s.Properties {
		if p.Category != last && p.Category.EN != "" {
			e.System.Product.Properties = append(e.System.Product.Properties,
				category{msg: russian.say("category."+p.Key, p.Category)})
		}
		last = p.Category
		x := property{
			Key: p.Key, Type: p.Type, Qualifiers: p.Qualifiers, Configurable: p.UserConfigurable,
			Default: p.Default, Password: p.Password, Label: russian.say(p.Key+".label", p.Label),
		}
		if p.Description.EN != "" {
			d := russian.say(p.Key+".description", p.Description)
			x.Description = &d
		}
		e.System.Product.Properties = append(e.System.Product.Properties, x)
	}
	if len(russian.Msgs) > 0 {
		e.Strings = russian
	}
	return e
}

// items are the machine's devices, controllers before what hangs on them. InstanceIDs count from 1.
func (s *Spec) items() []item {
	var items []item
	add := func(i item) (id string) {
		i.InstanceID = strconv.Itoa(len(items) + 1)
		items = append(items, i)
		return i.InstanceID
	}
	add(item{
		Units: "hertz * 10^6", Description: "Number of virtual CPUs", ElementName: fmt.Sprintf("%d virtual CPU(s)", s.CPUs),
		Type: 3, Quantity: int64(s.CPUs),
	})
	add(item{
		Units: unitMiB, Description: "Memory size", ElementName: fmt.Sprintf("%d MB of memory", s.MemoryMiB),
		Type: 4, Quantity: s.MemoryMiB,
	})
	sata := add(item{Address: "0", Description: "SATA controller", ElementName: "SATA controller 0", SubType: "vmware.sata.ahci", Type: 20})
	ide := add(item{Address: "0", Description: "IDE controller", ElementName: "IDE 0", Type: 5})
	add(item{AddressOnParent: "0", ElementName: "Hard disk 1", HostResource: "ovf:/disk/" + diskID, Parent: sata, Type: 17})
	add(item{
		AddressOnParent: "0", Automatic: "false", ElementName: "CD/DVD drive 1", Parent: ide,
		SubType: "vmware.cdrom.remotepassthrough", Type: 15,
	})
	add(item{
		AddressOnParent: "7", Automatic: "true", Connection: s.Network, Description: s.NIC + " adapter on " + s.Network,
		ElementName: "Network adapter 1", SubType: s.NIC, Type: 10,
	})
	add(item{Required: "false", Automatic: "false", ElementName: "Video card", Type: 24})
	add(item{Required: "false", Automatic: "false", ElementName: "VMCI device", SubType: "vmware.vmci", Type: 1})
	if s.Serial {
		add(item{
			Required: "false", Automatic: "false", Description: "Recovery console", ElementName: "Serial port 1",
			SubType: "vmware.serialport.device", Type: 21,
		})
	}
	return items
}
