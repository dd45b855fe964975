// Runs in the page of whoever embeds it: writes what guests say beside each hotel.
for (const place of document.querySelectorAll("[data-hotel]")) {
  place.textContent = ratings[place.dataset.hotel] ?? "";
}
