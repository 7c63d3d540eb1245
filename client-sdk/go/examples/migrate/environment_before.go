package main

import (
	"context"
	"fmt"

	"google.golang.org/genai"
)

func environmentBefore(ctx context.Context) error {
	client, err := genai.NewClient(ctx, nil) // The key is in GEMINI_API_KEY.
	if err != nil {
		return err
	}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Name three rivers."), nil)
	if err != nil {
		return err
	}
	fmt.Println(answer.Text())
	return nil
}
