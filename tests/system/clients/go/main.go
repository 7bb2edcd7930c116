// Eclipse's clients for Go: paho.mqtt.golang speaks 3.1.1, paho.golang speaks 5. Publish COUNT messages, wait for a
// command, say goodbye. Words: PORT VERSION QOS COUNT NAME.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must(err)
	return n
}

func wait(told <-chan string) {
	select {
	case payload := <-told:
		fmt.Println("command", payload)
	case <-time.After(20 * time.Second):
		must(fmt.Errorf("no command"))
	}
}

func three(port string, qos byte, count int, name string) {
	told := make(chan string, 10)
	options := mqtt.NewClientOptions().AddBroker("tcp://127.0.0.1:" + port).SetClientID(name).SetProtocolVersion(4)
	client := mqtt.NewClient(options)
	done := func(token mqtt.Token) {
		token.Wait()
		must(token.Error())
	}
	done(client.Connect())
	done(client.Subscribe("hw/clients/"+name+"/cmd", qos, func(_ mqtt.Client, message mqtt.Message) {
		told <- string(message.Payload())
	}))
	var sent []mqtt.Token
	for n := 0; n < count; n++ {
		sent = append(sent, client.Publish(fmt.Sprintf("hw/clients/%s/data/m%d", name, n), qos, false, strconv.Itoa(n)))
	}
	for _, token := range sent {
		done(token)
	}
	fmt.Println("acknowledged", count)
	wait(told)
	client.Disconnect(1000)
}

func five(port string, qos byte, count int, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	must(err)
	told := make(chan string, 10)
	client := paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			told <- string(got.Packet.Payload)
			return true, nil
		}},
	})
	_, err = client.Connect(ctx, &paho.Connect{ClientID: name, KeepAlive: 30, CleanStart: true})
	must(err)
	_, err = client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: "hw/clients/" + name + "/cmd", QoS: qos}},
	})
	must(err)
	var all sync.WaitGroup
	for n := 0; n < count; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			_, err := client.Publish(ctx, &paho.Publish{
				Topic: fmt.Sprintf("hw/clients/%s/data/m%d", name, n), QoS: qos, Payload: []byte(strconv.Itoa(n)),
			})
			must(err)
		}(n)
	}
	all.Wait()
	fmt.Println("acknowledged", count)
	wait(told)
	must(client.Disconnect(&paho.Disconnect{ReasonCode: 0}))
}

func main() {
	port, version, qos, count, name := os.Args[1], os.Args[2], byte(number(os.Args[3])), number(os.Args[4]), os.Args[5]
	if version == "5" {
		five(port, qos, count, name)
	} else {
		three(port, qos, count, name)
	}
}
